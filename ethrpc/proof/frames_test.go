package proof_test

import (
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

func TestFrames(t *testing.T) {
	at := func(i byte) common.Address { return common.Address{0: 0xcc, 19: i} }
	hex := func(i byte) string { return common.Bytes2Hex(at(i).Bytes()) }
	const (
		forward = "365f5f37" + "5f5f365f73" // all of the input, to
		other   = "60aa5f53" + "5f5f60015f73"
	)
	alloc := types.GenesisAlloc{}
	for i, code := range []string{
		forward + hex(2) + "5af4" + "00",                                      // 0 hands on to 2
		"7f" + strings.Repeat("00", 12) + hex(2) + "5f5260205ff3",             // 1 gives the address of 2
		other + hex(3) + "5af4" + "00",                                        // 2 delegates other input to 3
		"60aa5f5260205ff3",                                                    // 3 gives a small number
		"60205f5f5f73" + hex(1) + "5afa50" + forward + hex(0) + "5af4" + "00", // 4 calls 1 and delegates to 0
	} {
		alloc[at(byte(i))] = types.Account{Code: common.FromHex(code), Balance: common.Big1}
	}
	p := start(t, testchain.Options{Alloc: alloc})
	w := p.world()
	input := []byte{1, 2, 3, 4}
	res, _ := p.call(t, w, at(4), input)
	if diff := cmp.Diff([]common.Address{at(4), at(1), at(0), at(2), at(3)}, res.Codes); diff != "" {
		t.Errorf("whose code ran (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]proof.Frame{
		{Code: at(4)},
		{Code: at(1), Depth: 1, Gave: at(2)},
		{Code: at(0), Depth: 1, Delegated: true, Forwarded: true},
		{Code: at(2), Depth: 2, Delegated: true, Forwarded: true},
		{Code: at(3), Depth: 3, Delegated: true, Gave: common.Address{19: 0xaa}},
	}, w.Frames(t.Context(), at(4), input)); diff != "" {
		t.Errorf("the frames (-want +got):\n%s", diff)
	}
}
