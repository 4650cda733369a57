package logs_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/logs"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
)

const (
	hash1 = "0x1111111111111111111111111111111111111111111111111111111111111111"
	hash2 = "0x2222222222222222222222222222222222222222222222222222222222222222"
)

// FuzzLogs checks that a list of logs is accepted only if every log is of the requested contract, topics and blocks, and that it
// is sorted and without duplicates.
func FuzzLogs(f *testing.F) {
	at := common.HexToAddress("0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C")
	req := logs.Request{Contract: at, Filters: []logs.Filter{{{common.HexToHash(hash1)}}}, From: 5, To: 20, ToHash: common.HexToHash(hash2)}
	log := `{"address":"` + strings.ToLower(at.Hex()) + `","topics":["` + hash1 + `"],"data":"0x01","blockNumber":"0x7","blockHash":"` + hash1 + `","transactionHash":"` + hash2 + `","transactionIndex":"0x0","logIndex":"0x1","removed":false}`
	end := `{"number":"0x14","hash":"` + hash2 + `","timestamp":"0x1"}`
	for _, s := range []string{"null", "[]", "[null]", "[{}]", "{}", "[" + log + "]", "[" + log + "," + log + "]", "[" + log + "," + strings.Replace(log, `"0x1","removed"`, `"0x0","removed"`, 1) + "]",
		"[" + strings.Replace(log, "0x7", "0x15", 1) + "]", "[" + strings.Replace(log, "false", "true", 1) + "]", "[" + strings.Replace(log, hash1, hash2, 1) + "]", "[" + strings.Replace(log, "2f83", "0f83", 1) + "]",
		"[" + strings.Replace(log, "0x7", "0x14", 1) + "]", `[{"address":"\u001b"}]`} {
		f.Add([]byte(s), []byte(end))
	}
	f.Add([]byte("[]"), []byte("null"))
	f.Add([]byte("[]"), []byte(strings.Replace(end, "0x14", "0x13", 1)))
	f.Add([]byte("[]"), []byte(strings.Replace(end, hash2, hash1, 1)))
	f.Fuzz(func(t *testing.T, raw, block []byte) {
		got, last, err := logs.ReadLogs(req, req.From, req.To, raw, block)
		if err != nil {
			fit.Error(t, err, 1000)
			return
		}
		var all []json.RawMessage
		if err := json.Unmarshal(raw, &all); err != nil || len(all) != len(got) || last != req.ToHash {
			t.Fatalf("%s up to %s is read as %d logs", raw, last, len(got))
		}
		for i, l := range got {
			if l.Address != at || l.Topics[0] != req.Filters[0][0][0] || len(l.Topics) > 4 || l.BlockNumber < req.From || l.BlockNumber > req.To || len(l.Data) > len(raw) {
				t.Errorf("taken: %+v", l)
			}
			if i > 0 && (got[i-1].BlockNumber > l.BlockNumber || got[i-1].BlockNumber == l.BlockNumber && (got[i-1].Index >= l.Index || got[i-1].BlockHash != l.BlockHash)) {
				t.Errorf("%+v comes after %+v", l, got[i-1])
			}
		}
	})
}
