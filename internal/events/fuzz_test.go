package events_test

import (
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/internal/events"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
)

// logsOf reads logs out of b: which topic a log begins with, how many more it has and what is in them, how long its
// data is and what is in it, and which transaction it is of.
func logsOf(b []byte) (logs []types.Log) {
	topics := events.Topics()
	for ; len(b) >= 4; b = b[4:] {
		l := types.Log{Topics: []common.Hash{topics[int(b[0])%len(topics)]}, TxHash: common.Hash{b[3] >> 6}, BlockNumber: uint64(len(logs) / 2), Index: uint(len(logs))}
		for i := range b[1] & 3 {
			// A topic of the list's own names, of an id or of an address.
			l.Topics = append(l.Topics, common.Hash{31: b[2] + i})
		}
		size := []int{32, 32, 32, 32, 0, 31, 33, 64}[b[1]>>2&7]
		l.Data = make([]byte, size)
		if size > 0 {
			l.Data[size-1] = b[3] & 0x3f
		}
		logs = append(logs, l)
	}
	return logs
}

var upgraded = crypto.Keccak256Hash([]byte("Upgraded(address)"))

// FuzzDecode holds that every log is one event of its own or none, in its order, that one of a wrong shape ends in an
// error, and that an actor is one whom a log of the same transaction names.
func FuzzDecode(f *testing.F) {
	for i := range byte(len(events.Topics())) {
		f.Add([]byte{i, 0, 7, 7, i, 3, 7, 1, i, 4 << 2, 0, 0})
		f.Add([]byte{i, 0, 1, 1})
		f.Add([]byte{i, 4 << 2, 1, 1})
		f.Add([]byte{i, 1 | 4<<2, 1, 1})
		f.Add([]byte{i, 3 | 4<<2, 1, 1})
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		logs := logsOf(b)
		events, err := events.Decode(logs)
		if err != nil {
			fit.Error(t, err, 300)
			return
		}
		named := map[common.Hash]map[common.Address]bool{}
		var own []types.Log
		for _, l := range logs {
			switch {
			case l.Topics[0] == upgraded && len(l.Topics) == 2 && len(l.Data) == 0:
				l.Data = l.Topics[1][:]
				own = append(own, l)
			case len(l.Data) != 32 || l.Topics[0] == upgraded:
				t.Fatalf("a log of %d bytes is taken", len(l.Data))
			case len(l.Topics) == 1:
				own = append(own, l)
			case len(l.Topics) == 4:
				if named[l.TxHash] == nil {
					named[l.TxHash] = map[common.Address]bool{}
				}
				named[l.TxHash][common.BytesToAddress(l.Topics[1][12:])] = true
			default:
				t.Fatalf("a log of %d topics is taken", len(l.Topics))
			}
		}
		if len(own) != len(events) {
			t.Fatalf("%d logs are %d events", len(own), len(events))
		}
		for i, e := range events {
			if l := own[i]; e.Key != common.BytesToHash(l.Data) || e.Index != l.Index || e.Block != l.BlockNumber || e.Tx != l.TxHash || e.List == "" {
				t.Errorf("%+v is read as %+v", l, e)
			}
			if e.Actor != (common.Address{}) && !named[e.Tx][e.Actor] {
				t.Errorf("nobody names the actor of %+v", e)
			}
		}
	})
}
