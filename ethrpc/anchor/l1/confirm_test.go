package l1_test

import (
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rlp"

	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/l1"
)

// branch returns n linked headers from block 100 on.
func branch(n int, world byte, parent common.Hash) (out []*types.Header) {
	for i := range n {
		h := &types.Header{
			ParentHash: parent, Number: big.NewInt(int64(100 + i)), Time: uint64(7000 + 2*i), Difficulty: new(big.Int), BaseFee: big.NewInt(1), Root: common.Hash{world, byte(i)},
			WithdrawalsHash: &common.Hash{7},
		}
		parent, out = h.Hash(), append(out, h)
	}
	return out
}

func encode(t *testing.T, headers ...*types.Header) (out [][]byte) {
	t.Helper()
	for _, h := range headers {
		b, err := rlp.EncodeToBytes(h)
		must(t, err)
		out = append(out, b)
	}
	return out
}

// TestHeadersLeadDownToTheAuditedBlock checks every Outcome of Confirm.
func TestHeadersLeadDownToTheAuditedBlock(t *testing.T) {
	ours := branch(6, 1, common.Hash{})
	fork := append(slices.Clone(ours[:3]), branch(6, 2, common.Hash{})[3:]...) // its parent hashes do not fit yet
	for i := 3; i < 6; i++ {
		fork[i].ParentHash = fork[i-1].Hash()
	}
	bare := *ours[5]
	bare.WithdrawalsHash = nil
	old := *ours[5]
	old.WithdrawalsHash = &types.EmptyWithdrawalsHash
	moved := *ours[5]
	moved.Number = big.NewInt(200)
	down := func(headers []*types.Header, to int) [][]byte { // from block 105 to an audited one
		out := encode(t, headers[to:]...)
		slices.Reverse(out)
		return out
	}
	for _, row := range []struct {
		sentence string
		claim    *types.Header // whose output root L1 holds, as that of block 105
		audited  *types.Header
		headers  [][]byte
		want     l1.Outcome
		says     string
	}{
		{"they lead to the block", ours[5], ours[1], down(ours, 1), l1.Confirmed, ""},
		{"it is the block before", ours[5], ours[4], down(ours, 4), l1.Confirmed, ""},
		{"it is the block itself", ours[5], ours[5], encode(t, ours[5]), l1.Confirmed, ""},
		{"L1 holds another branch, from below the block", fork[5], ours[4], down(fork, 4), l1.Contradicted, "block 104 is " + fork[4].Hash().Hex() + " according to L1's output root of block 105"},
		{"L1 holds another branch, from above the block", fork[5], ours[1], down(fork, 1), l1.Confirmed, ""},
		{"L1 holds another branch than the headers that lead to the block", fork[5], ours[4], down(ours, 4), l1.Unvouched, "block 105 is not the one whose output root L1 holds"},
		{"L1 holds another block", fork[5], ours[5], encode(t, ours[5]), l1.Unvouched, "is not the one whose output root L1 holds"},
		{"L1 holds that block, not the audited one", fork[5], ours[5], encode(t, fork[5]), l1.Contradicted, "block 105 is " + fork[5].Hash().Hex()},
		{"the headers are of neither L1's chain nor the audited one", fork[5], ours[4], down(branch(6, 3, common.Hash{}), 4), l1.Unvouched, "is not the one whose output root L1 holds"},
		{"one is missing", ours[5], ours[1], down(ours, 1)[:4], l1.NotCovered, "4 headers do not lead"},
		{"one is too many", ours[5], ours[1], down(ours, 0), l1.NotCovered, "6 headers do not lead"},
		{"there are none", ours[5], ours[5], nil, l1.NotCovered, "0 headers do not lead"},
		{"one is of another branch", ours[5], ours[1], append(down(ours, 1)[:3], encode(t, fork[3], ours[1])...), l1.NotCovered, "to block 102"},
		{"they are the wrong way round", ours[5], ours[3], encode(t, ours[4], ours[5], ours[3]), l1.NotCovered, "the header of block 105 has the number 104"},
		{"the first is of another number", &moved, ours[4], encode(t, &moved, ours[4]), l1.NotCovered, "the header of block 105 has the number 200"},
		{"the first has no withdrawals root", ours[5], ours[5], encode(t, &bare), l1.Unknown, "lacks the withdrawals root"},
		{"the first has none, and L1 holds zero", nil, ours[5], encode(t, &bare), l1.Unknown, "lacks the withdrawals root"},
		{"the first is older than Isthmus", ours[5], ours[5], encode(t, &old), l1.Unknown, "older than Isthmus"},
		{"the first is older than Isthmus, and a game claims it", ours[5], ours[5], encode(t, &old), l1.Unvouched, "is not the one whose output root L1 holds"},
		{"L1 holds zero", nil, ours[4], down(ours, 4), l1.Unvouched, "is not the one whose output root L1 holds"},
		{"one is not a header", ours[5], ours[5], [][]byte{{1}}, l1.NotCovered, "block 105"},
		{"one is too long", ours[5], ours[5], [][]byte{make([]byte, 1<<20)}, l1.NotCovered, "more than"},
		{"the block is above the point", ours[5], &moved, encode(t, ours[5]), l1.NotCovered, "do not lead"},
	} {
		p := l1.Point{Trust: l1.Proposed, Block: 105}
		if strings.Contains(row.sentence, "a game claims it") {
			p.Game = common.Address{1}
		}
		if row.claim != nil {
			p.Root = rootOf(row.claim)
		}
		got, made, err := p.Confirm(row.audited.Number.Uint64(), row.audited.Hash(), row.headers)
		if got != row.want || (err == nil) != (row.want == l1.Confirmed) || err != nil && !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: outcome %d (%v), want %d (%s)", row.sentence, got, err, row.want, row.says)
		}
		if got == l1.Confirmed && uint64(made.Unix()) != row.audited.Time {
			t.Errorf("%s: it was made at %s, want %d", row.sentence, made, row.audited.Time)
		}
	}
}

// TestTheNearestPointOfTheBestTrustCovers checks which Point Covering chooses.
func TestTheNearestPointOfTheBestTrustCovers(t *testing.T) {
	root := func(n byte) common.Hash { return common.Hash{n} }
	r := l1.Reading{Points: []l1.Point{
		{Trust: l1.Proposed, Block: 60, Root: root(60), Reach: 10}, {Trust: l1.Proposed, Block: 50, Root: root(50), Reach: 10},
		{Trust: l1.Anchored, Block: 50, Root: root(50), Reach: 20}, {Trust: l1.Anchored, Block: 45, Root: root(45), Reach: 1},
		{Trust: l1.Proposed, Block: 20, Root: root(20), Reach: 10}, {Trust: l1.Anchored, Block: 20, Root: root(21), Reach: 1},
	}}
	for block, want := range map[uint64]l1.Point{
		61: {}, 60: r.Points[0], 51: r.Points[0], 50: r.Points[2], 46: r.Points[2], 45: r.Points[3], 44: r.Points[2], 31: r.Points[2], 30: {}, 20: {}, 19: {}, 10: {},
	} {
		got, err := r.Covering(block)
		if got != want || (err == nil) != (want != l1.Point{}) {
			t.Errorf("block %d is covered by %+v (%v), want %+v", block, got, err, want)
		}
	}
}
