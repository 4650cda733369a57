package consensus_test

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/golang/snappy"
)

// ssz converts the consensus specification's vectors (SSZ in snappy, minimal preset) to the beacon API's JSON.
type ssz struct {
	rest   []byte
	whole  []byte
	branch int // extra nodes of a state's branches
}

const minimalCommittee = 32

type object = map[string]any

func readSSZ(t testing.TB, path, fork string) *ssz {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		b, err = snappy.Decode(nil, b)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &ssz{rest: b, whole: b}
	if fork != "deneb" {
		s.branch = 1
	}
	return s
}

func (s *ssz) bytes(n int) []byte {
	b := s.rest[:n]
	s.rest = s.rest[n:]
	return b
}

func (s *ssz) hex(n int) string { return "0x" + hex.EncodeToString(s.bytes(n)) }

func (s *ssz) number() string {
	return strconv.FormatUint(binary.LittleEndian.Uint64(s.bytes(8)), 10)
}

func (s *ssz) list(n, size int) (out []string) {
	for range n {
		out = append(out, s.hex(size))
	}
	return out
}

// at returns a reader at an offset.
func (s *ssz) at() *ssz {
	from := s.whole[binary.LittleEndian.Uint32(s.bytes(4)):]
	return &ssz{from, from, s.branch}
}

func (s *ssz) committee() object {
	return object{"pubkeys": s.list(minimalCommittee, 48), "aggregate_pubkey": s.hex(48)}
}

func (s *ssz) header() object {
	o := object{"beacon": object{"slot": s.number(), "proposer_index": s.number(), "parent_root": s.hex(32), "state_root": s.hex(32), "body_root": s.hex(32)}}
	e := s.at()
	o["execution_branch"] = s.list(4, 32)
	execution := object{}
	for _, f := range []struct {
		name string
		size int
	}{{"parent_hash", 32}, {"fee_recipient", 20}, {"state_root", 32}, {"receipts_root", 32}, {"logs_bloom", 256}, {"prev_randao", 32}} {
		execution[f.name] = e.hex(f.size)
	}
	for _, name := range []string{"block_number", "gas_limit", "gas_used", "timestamp"} {
		execution[name] = e.number()
	}
	e.bytes(4) // the offset of extra_data, which the vectors do not have
	execution["extra_data"] = "0x"
	fee := slices.Clone(e.bytes(32))
	slices.Reverse(fee)
	execution["base_fee_per_gas"] = new(big.Int).SetBytes(fee).String()
	for _, name := range []string{"block_hash", "transactions_root", "withdrawals_root"} {
		execution[name] = e.hex(32)
	}
	execution["blob_gas_used"], execution["excess_blob_gas"] = e.number(), e.number()
	o["execution"] = execution
	return o
}

func (s *ssz) bootstrap() object {
	return object{"header": s.at().header(), "current_sync_committee": s.committee(), "current_sync_committee_branch": s.list(5+s.branch, 32)}
}

func (s *ssz) update() object {
	return object{
		"attested_header": s.at().header(), "next_sync_committee": s.committee(), "next_sync_committee_branch": s.list(5+s.branch, 32),
		"finalized_header": s.at().header(), "finality_branch": s.list(6+s.branch, 32),
		"sync_aggregate": object{"sync_committee_bits": s.hex(minimalCommittee / 8), "sync_committee_signature": s.hex(96)},
		"signature_slot": s.number(),
	}
}

func document(t testing.TB, version string, data object) []byte {
	t.Helper()
	b, err := json.Marshal(object{"version": version, "data": data})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
