package l1_test

import (
	"bytes"
	"context"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/l1"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

const otherType = testchain.GameType + 1

// won makes both games' claims final, and the second one the anchor game.
func won(t *testing.T, w *world) {
	t.Helper()
	w.setGame(t, w.first, 2, 1, 0)
	w.setGame(t, w.second, 2, 1, 0)
	w.send(t, testchain.RollupRegistry, "setAnchorGame", w.second)
}

func (w *world) setGame(t *testing.T, game common.Address, status, proofs uint8, countered int64) {
	t.Helper()
	must(t, w.rollup.SetGame(t.Context(), game, status, proofs, countered))
}

func (w *world) alter(t *testing.T, name, signature string, output []byte) {
	t.Helper()
	must(t, w.rollup.Alter(t.Context(), name, signature, output))
}

func (w *world) respect(t *testing.T, gameType uint32) {
	t.Helper()
	w.send(t, testchain.RollupRegistry, "set", w.rollup.At[testchain.RollupConfig], w.rollup.At[testchain.RollupFactory], gameType)
}

// third proposes a third game on the second one: a true one that change may alter.
func (w *world) third(t *testing.T, change func(*testchain.Proposal)) common.Address {
	t.Helper()
	p := w.proposal(t, 60, w.second)
	change(&p)
	return w.propose(t, p)
}

func address(last byte) []byte { return common.LeftPadBytes([]byte{last}, 32) }

// row is a change of a world and the expected Trust.
type row struct {
	sentence string
	change   func(t *testing.T, w *world)
	block    uint64 // audited
	trust    l1.Trust
	outcome  l1.Outcome
	says     string
}

// check runs one row. An unconfirmed block must have a reason.
func (r row) check(t *testing.T, l2 *testenv.World) {
	t.Run(r.sentence, func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, l2)
		r.change(t, w)
		calls, _ := w.calls(t, client(t, l1ID, w.l1.URL), nil)
		got, says := w.confirm(t, calls, r.block), ""
		if got.err != nil {
			says = got.err.Error()
		}
		if got.trust != r.trust || got.outcome != r.outcome || (says == "") != (r.outcome == l1.Confirmed) || !strings.Contains(says, r.says) {
			t.Errorf("block %d is %s, outcome %d (%s), want %s, outcome %d (%s)", r.block, got.trust, got.outcome, says, r.trust, r.outcome, r.says)
		}
		if got.headers > step && got.trust == l1.Proposed {
			t.Errorf("%d headers, want at most %d", got.headers, step)
		}
	})
}

// TestTheLabelIsRightOrALowerOne checks that the Trust is never too high, and that a lower one has a reason.
func TestTheLabelIsRightOrALowerOne(t *testing.T) {
	l2 := startL2(t)
	for _, r := range []row{
		{"a game claims an intermediate root above the block", func(*testing.T, *world) {}, 47, l1.Proposed, l1.Confirmed, ""},
		{"a game claims the block itself", func(*testing.T, *world) {}, 60, l1.Proposed, l1.Confirmed, ""},
		{"an older game claims it", func(*testing.T, *world) {}, 21, l1.Proposed, l1.Confirmed, ""},
		{"no game reaches up to it", func(*testing.T, *world) {}, 61, l1.Providers, l1.NotCovered, "the newest block with an output root on L1 is 60 (l1_proposed)"},
		{"the anchor root is above it", func(*testing.T, *world) {}, 3, l1.Anchored, l1.Confirmed, ""},
		{"the anchor root is of it", func(*testing.T, *world) {}, 20, l1.Anchored, l1.Confirmed, ""},
		{"its game became the anchor game", won, 47, l1.Anchored, l1.Confirmed, ""},
		{"the game before the anchor game claimed it", won, 27, l1.Anchored, l1.Confirmed, ""},
		{"there is no anchor root", func(t *testing.T, w *world) {
			w.send(t, testchain.RollupRegistry, "setStarting", common.Hash{}, big.NewInt(0))
		}, 3, l1.Providers, l1.NotCovered, "no anchor root"},
		{"its anchor game is blacklisted", func(t *testing.T, w *world) {
			won(t, w)
			w.send(t, testchain.RollupRegistry, "blacklist", w.second)
		}, 27, l1.Proposed, l1.Confirmed, ""},
		{"its game won, and is not the anchor game", func(t *testing.T, w *world) { w.setGame(t, w.second, 2, 1, 0) }, 47, l1.Proposed, l1.Confirmed, ""},

		{"its game is blacklisted", func(t *testing.T, w *world) { w.send(t, testchain.RollupRegistry, "blacklist", w.second) }, 47, l1.Providers, l1.NotCovered, "is blacklisted"},
		{"all games are retired", func(t *testing.T, w *world) { w.send(t, testchain.RollupRegistry, "retire", uint64(1)<<40) }, 47, l1.Providers, l1.NotCovered, "is retired"},
		{"its game is of another type", func(t *testing.T, w *world) {
			_, err := w.rollup.AddType(t.Context(), otherType)
			must(t, err)
			w.third(t, func(p *testchain.Proposal) { p.Type = otherType })
		}, 67, l1.Providers, l1.NotCovered, "it is of type 9, but the respected type is 8"},
		{"another type is respected now", func(t *testing.T, w *world) { w.respect(t, otherType) }, 47, l1.Providers, l1.NotCovered, "it is of type 8, but the respected type is 9"},
		{"its type was not respected when it was created", func(t *testing.T, w *world) {
			w.respect(t, otherType)
			w.third(t, func(*testchain.Proposal) {})
			w.respect(t, testchain.GameType)
		}, 67, l1.Providers, l1.NotCovered, "not respected when it was created"},
		{"the factory lists its game as one of another type", func(t *testing.T, w *world) {
			must(t, w.rollup.Send(t.Context(), testchain.RollupFactory, "setImplementation", otherType, w.rollup.Implementation))
			w.third(t, func(p *testchain.Proposal) { p.Type = otherType })
			w.respect(t, otherType)
		}, 67, l1.Providers, l1.NotCovered, "is not registered"},
		{"its game is not registered", func(t *testing.T, w *world) {
			must(t, w.rollup.Forget(t.Context(), w.proposal(t, 40, w.first)))
		}, 47, l1.Providers, l1.NotCovered, "is not registered"},
		{"its game was countered", func(t *testing.T, w *world) { w.setGame(t, w.second, 0, 2, 3) }, 47, l1.Providers, l1.NotCovered, "was countered"},
		{"its game was countered at a root of a great number", func(t *testing.T, w *world) {
			w.alter(t, testchain.RollupGame, "counteredByIntermediateRootIndexPlusOne()", append([]byte{1}, make([]byte, 31)...))
			w.third(t, func(*testchain.Proposal) {})
		}, 67, l1.Providers, l1.NotCovered, "was countered"},
		{"its game was lost", func(t *testing.T, w *world) { w.setGame(t, w.second, 1, 1, 0) }, 47, l1.Providers, l1.NotCovered, "its status is 1"},
		{"its game has a status of no meaning", func(t *testing.T, w *world) { w.setGame(t, w.second, 3, 1, 0) }, 47, l1.Providers, l1.NotCovered, "its status is 3"},
		{"its game has no proof any more", func(t *testing.T, w *world) { w.setGame(t, w.second, 0, 0, 0) }, 47, l1.Providers, l1.NotCovered, "it has no proof"},
		{"its game goes on from one that was countered", func(t *testing.T, w *world) { w.setGame(t, w.first, 0, 2, 1) }, 47, l1.Providers, l1.NotCovered, "does not count: one of its intermediate roots was countered"},
		{"its game goes on from one that was countered, which is looked at with older games", func(t *testing.T, w *world) {
			_, err := w.rollup.AddType(t.Context(), otherType)
			must(t, err)
			for i := range 3 {
				w.third(t, func(p *testchain.Proposal) { p.Type, p.Roots[0] = otherType, common.Hash{byte(i)} })
			}
			w.setGame(t, w.first, 0, 2, 1)
		}, 47, l1.Providers, l1.NotCovered, "does not count: one of its intermediate roots was countered"},
		{"the contracts are paused", func(t *testing.T, w *world) {
			won(t, w)
			w.send(t, testchain.RollupConfig, "setPaused", true)
		}, 47, l1.Providers, l1.NotCovered, "paused"},

		{"its game claims another block", func(t *testing.T, w *world) {
			w.third(t, func(p *testchain.Proposal) { p.Roots[1] = common.Hash{1} })
		}, 67, l1.Proposed, l1.Unvouched, "is not the one whose output root L1 holds"}, // that of the test chain's blocks is empty
		{"its game claims another block elsewhere", func(t *testing.T, w *world) {
			w.third(t, func(p *testchain.Proposal) { p.Roots[2] = common.Hash{1} })
		}, 67, l1.Proposed, l1.Confirmed, ""},
		{"two games claim different blocks", func(t *testing.T, w *world) {
			w.third(t, func(p *testchain.Proposal) { p.Roots[1] = common.Hash{1} })
			w.third(t, func(*testchain.Proposal) {})
		}, 67, l1.Providers, l1.NotCovered, "two output roots of block 70"},
		{"its game does not end with its claim", func(t *testing.T, w *world) {
			w.third(t, func(p *testchain.Proposal) { p.Claim = w.root(t, 79) })
		}, 67, l1.Providers, l1.NotCovered, "not with its claim"},
		{"its roots are not at equal steps", func(t *testing.T, w *world) {
			w.third(t, func(p *testchain.Proposal) { p.Roots = p.Roots[1:] })
		}, 67, l1.Providers, l1.NotCovered, "equal steps"},
		{"its game ends where it began", func(t *testing.T, w *world) {
			w.third(t, func(p *testchain.Proposal) { p.Block = 60 })
		}, 67, l1.Providers, l1.NotCovered, "equal steps"},
		{"its game is hidden behind too many", func(t *testing.T, w *world) {
			_, err := w.rollup.AddType(t.Context(), otherType)
			must(t, err)
			for i := range 80 {
				w.third(t, func(p *testchain.Proposal) { p.Type, p.Roots[0] = otherType, common.Hash{byte(i)} })
			}
		}, 47, l1.Providers, l1.NotCovered, "older games are not read"},
		{"its game's parent is hidden behind too many", func(t *testing.T, w *world) {
			_, err := w.rollup.AddType(t.Context(), otherType)
			must(t, err)
			for i := range 79 {
				w.third(t, func(p *testchain.Proposal) { p.Type, p.Roots[0] = otherType, common.Hash{byte(i)} })
			}
		}, 47, l1.Providers, l1.NotCovered, "is too old to be read"},
		{"its game's parent is hidden behind some", func(t *testing.T, w *world) {
			_, err := w.rollup.AddType(t.Context(), otherType)
			must(t, err)
			for i := range 7 {
				w.third(t, func(p *testchain.Proposal) { p.Type, p.Roots[0] = otherType, common.Hash{byte(i)} })
			}
		}, 47, l1.Proposed, l1.Confirmed, ""},

		{"the SystemConfig is another chain's", func(t *testing.T, w *world) {
			w.send(t, testchain.RollupConfig, "set", w.rollup.At[testchain.RollupPortal], big.NewInt(10))
		}, 47, l1.Providers, l1.NotCovered, "is of chain 10, not 8453"},
		{"the portal has another SystemConfig", func(t *testing.T, w *world) {
			w.send(t, testchain.RollupPortal, "set", w.rollup.At[testchain.RollupRegistry], w.rollup.At[testchain.RollupRegistry])
			w.alter(t, testchain.RollupPortal, "paused()", make([]byte, 32))
		}, 47, l1.Providers, l1.NotCovered, "name the SystemConfigs"},
		{"the registry has another SystemConfig", func(t *testing.T, w *world) {
			w.alter(t, testchain.RollupRegistry, "systemConfig()", address(1))
		}, 47, l1.Providers, l1.NotCovered, "name the SystemConfigs"},
		{"the SystemConfig has another factory", func(t *testing.T, w *world) {
			w.alter(t, testchain.RollupConfig, "disputeGameFactory()", common.LeftPadBytes(w.rollup.Implementation[:], 32))
		}, 47, l1.Providers, l1.NotCovered, "gameCount()"},
		{"the portal has another factory", func(t *testing.T, w *world) {
			w.alter(t, testchain.RollupPortal, "disputeGameFactory()", address(1))
			w.alter(t, testchain.RollupConfig, "disputeGameFactory()", common.LeftPadBytes(w.rollup.At[testchain.RollupFactory].Bytes(), 32))
		}, 47, l1.Providers, l1.NotCovered, "name the factories"},
		{"the portal respects another type", func(t *testing.T, w *world) {
			w.alter(t, testchain.RollupPortal, "respectedGameType()", address(9))
		}, 47, l1.Providers, l1.NotCovered, "respect games of type 9 and 8"},
		{"the registry alone is paused", func(t *testing.T, w *world) {
			w.alter(t, testchain.RollupRegistry, "paused()", address(1))
		}, 47, l1.Providers, l1.NotCovered, "paused"},
		{"the registry does not call its game proper", func(t *testing.T, w *world) {
			w.alter(t, testchain.RollupRegistry, "isGameProper(address)", make([]byte, 32))
		}, 47, l1.Providers, l1.NotCovered, "the registry does not call it proper"},
		{"the registry's anchor root is not its game's claim", func(t *testing.T, w *world) {
			won(t, w)
			w.alter(t, testchain.RollupRegistry, "getAnchorRoot()", append(w.root(t, 59).Bytes(), address(59)...))
		}, 47, l1.Anchored, l1.Confirmed, ""},
		{"the anchor root is of another block", func(t *testing.T, w *world) {
			w.send(t, testchain.RollupRegistry, "setStarting", w.root(t, 19), big.NewInt(20))
		}, 3, l1.Anchored, l1.Unknown, "lacks the withdrawals root"},
	} {
		r.check(t, l2)
	}
}

// TestABlockThatL1ContradictsIsFound has providers that gave a block off the chain that L1 holds.
func TestABlockThatL1ContradictsIsFound(t *testing.T) {
	l2 := startL2(t)
	w := &world{l2: l2}
	orphan := w.header(t, audited).Hash()
	_, err := l2.Chain.Reorg(t.Context(), 60)
	must(t, err)
	w = newWorld(t, l2)
	calls, _ := w.calls(t, client(t, l1ID, w.l1.URL), nil)
	got := w.confirmHash(t, calls, audited, orphan)
	if got.trust != l1.Proposed || got.outcome != l1.Contradicted || got.err == nil || !strings.Contains(got.err.Error(), "not "+orphan.Hex()) {
		t.Errorf("the orphan is %s, outcome %d (%v)", got.trust, got.outcome, got.err)
	}
	if got := w.confirm(t, calls, audited); got.outcome != l1.Confirmed {
		t.Errorf("the block in its place has outcome %d (%v)", got.outcome, got.err)
	}
}

// TestAGameOfALaterBlockNeedsItsParent checks that its parent is needed even if an earlier block is covered already.
func TestAGameOfALaterBlockNeedsItsParent(t *testing.T) {
	w := newWorld(t, startL2(t))
	_, err := w.rollup.AddType(t.Context(), otherType)
	must(t, err)
	for i := range 2 {
		w.third(t, func(p *testchain.Proposal) { p.Type, p.Roots[0] = otherType, common.Hash{byte(i)} })
	}
	w.third(t, func(*testchain.Proposal) {})
	p := w.proposal(t, 20, common.Address{}) // it covers block 22, and makes four games
	p.Block, p.Roots = 30, p.Roots[:2]
	w.propose(t, p)
	w.send(t, testchain.RollupRegistry, "blacklist", w.second)
	calls, _ := w.calls(t, client(t, l1ID, w.l1.URL), nil)
	r, err := l1.Read(t.Context(), calls, w.chain(), 22)
	must(t, err)
	if p, err := r.Covering(67); err == nil || !strings.Contains(err.Error(), "does not count: it is blacklisted") {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := r.Covering(22); err != nil || p.Block != 25 {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestAGameThatCountedBefore checks that such a game is read however old it is, and whether it still counts.
func TestAGameThatCountedBefore(t *testing.T) {
	l2 := startL2(t)
	for _, row := range []struct {
		sentence string
		change   func(t *testing.T, w *world)
		trust    l1.Trust // of block 27, which the first game claims
		fallen   string
	}{
		{"it is in progress", func(*testing.T, *world) {}, l1.Providers, ""},
		{"it won", func(t *testing.T, w *world) { w.setGame(t, w.first, 2, 1, 0) }, l1.Anchored, ""},
		{"it won, and another type is respected now", func(t *testing.T, w *world) {
			w.setGame(t, w.first, 2, 1, 0)
			w.respect(t, otherType)
		}, l1.Anchored, ""},
		{"it was lost", func(t *testing.T, w *world) { w.setGame(t, w.first, 1, 1, 0) }, l1.Providers, "its status is 1"},
		{"it was countered", func(t *testing.T, w *world) { w.setGame(t, w.first, 0, 2, 1) }, l1.Providers, "was countered"},
		{"it is blacklisted", func(t *testing.T, w *world) { w.send(t, testchain.RollupRegistry, "blacklist", w.first) }, l1.Providers, "is blacklisted"},
		{"it won, and is blacklisted", func(t *testing.T, w *world) {
			w.setGame(t, w.first, 2, 1, 0)
			w.send(t, testchain.RollupRegistry, "blacklist", w.first)
		}, l1.Providers, "is blacklisted"},
		{"it won, and the contracts are paused", func(t *testing.T, w *world) {
			w.setGame(t, w.first, 2, 1, 0)
			w.send(t, testchain.RollupConfig, "setPaused", true)
		}, l1.Providers, ""},
		{"its parent is not looked at any more", func(t *testing.T, w *world) {
			w.first, w.second = w.second, w.first
			hide(t, w, 76)
		}, l1.Providers, ""},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, l2)
			row.change(t, w)
			hide(t, w, 3)
			calls, _ := w.calls(t, client(t, l1ID, w.l1.URL), nil)
			for _, block := range []uint64{100, 41} { // 100: no game is read but the newest four
				r, err := l1.Read(t.Context(), calls, w.chain(), block, w.first, common.Address{1})
				must(t, err)
				p, _ := r.Covering(27)
				fallen := ""
				if err := r.Fallen(w.first); err != nil && p.Trust != l1.Anchored {
					fallen = err.Error()
				}
				if block == 100 && p.Trust != row.trust || (fallen == "") != (row.fallen == "") || !strings.Contains(fallen, row.fallen) {
					t.Errorf("read from block %d on: block 27 is %s, and the game fell for %q, want %s and %q", block, p.Trust, fallen, row.trust, row.fallen)
				}
			}
		})
	}
}

// hide creates newer games that do not count.
func hide(t *testing.T, w *world, games int) {
	t.Helper()
	_, err := w.rollup.AddType(t.Context(), otherType)
	must(t, err)
	for i := range games {
		w.propose(t, testchain.Proposal{Type: otherType, Block: 80, Roots: []common.Hash{{1, byte(games)}, {byte(i)}}})
	}
}

// getters lists the getters that each contract must have.
var getters = map[string]string{
	testchain.RollupConfig: "l2ChainId() optimismPortal() disputeGameFactory()",
	testchain.RollupPortal: "anchorStateRegistry() systemConfig() disputeGameFactory() respectedGameType() paused()",
	testchain.RollupRegistry: "systemConfig() disputeGameFactory() respectedGameType() paused() isGameRegistered(address) " +
		"isGameBlacklisted(address) isGameRetired(address) isGameRespected(address) isGameProper(address)",
	testchain.RollupFactory: "gameCount() gameAtIndex(uint256)",
	testchain.RollupGame: "gameType() wasRespectedGameTypeWhenCreated() status() proofCount() counteredByIntermediateRootIndexPlusOne() " +
		"parentAddress() rootClaim() l2SequenceNumber() startingBlockNumber() intermediateOutputRoots()",
}

const anchorGetters = "getAnchorRoot() anchorGame() isGameClaimValid(address)"

// TestAGetterThatIsGoneLowersTheLabel checks that a missing getter lowers the Trust and is named in the reason.
func TestAGetterThatIsGoneLowersTheLabel(t *testing.T) {
	l2 := startL2(t)
	for contract, signatures := range getters {
		for _, signature := range strings.Fields(signatures) {
			says := signature
			if strings.HasPrefix(signature, "wasRespected") {
				says = "isGameRespected(address)" // it asks the game
			}
			row{contract + " " + signature, func(t *testing.T, w *world) {
				if contract == testchain.RollupGame {
					w.alter(t, contract, signature, nil)
				}
				w.third(t, func(*testchain.Proposal) {})
				if contract != testchain.RollupGame {
					w.alter(t, contract, signature, nil)
				}
			}, 67, l1.Providers, l1.NotCovered, says}.check(t, l2)
		}
	}
	for _, signature := range strings.Fields(anchorGetters) {
		row{"beside games that count: " + signature, func(t *testing.T, w *world) {
			won(t, w)
			w.alter(t, testchain.RollupRegistry, signature, nil)
		}, 47, l1.Proposed, l1.Confirmed, ""}.check(t, l2)
		row{"alone: " + signature, func(t *testing.T, w *world) {
			won(t, w)
			w.setGame(t, w.second, 2, 0, 0)
			w.alter(t, testchain.RollupRegistry, signature, nil)
		}, 47, l1.Providers, l1.NotCovered, signature}.check(t, l2)
	}
}

// answers is a Caller that replaces one getter's answer.
type answers struct {
	l1.Caller
	signature string
	output    []byte
}

func (a answers) Call(ctx context.Context, calls ...proof.Call) ([]proof.Answer, error) {
	out, err := a.Caller.Call(ctx, calls...)
	for i := range out {
		if strings.HasPrefix(string(calls[i].Data), string(crypto.Keccak256([]byte(a.signature))[:4])) {
			out[i].Output = a.output
		}
	}
	return out, err
}

// TestRubbishLowersTheLabel checks that a malformed answer is refused and that the reason names the getter.
func TestRubbishLowersTheLabel(t *testing.T) {
	w := newWorld(t, startL2(t))
	open, _ := w.calls(t, client(t, l1ID, w.l1.URL), nil)
	won(t, w)
	final, _ := w.calls(t, client(t, l1ID, w.l1.URL), nil)
	read := func(calls l1.Caller, signature string, output []byte) (l1.Point, string) {
		r, err := l1.Read(t.Context(), answers{calls, signature, output}, w.chain(), audited)
		must(t, err)
		p, err := r.Covering(audited)
		if err != nil {
			return p, err.Error()
		}
		return p, fmt.Sprint(r.Lacks)
	}
	for calls, want := range map[l1.Caller]l1.Trust{open: l1.Proposed, final: l1.Anchored} {
		if p, says := read(calls, "none()", nil); p.Trust != want || says != "[]" {
			t.Fatalf("as it is: %v %s", p, says)
		}
	}
	words := map[string]int{"getAnchorRoot()": 2, "gameAtIndex(uint256)": 3, "intermediateOutputRoots()": 6}
	for _, signatures := range getters {
		for _, signature := range strings.Fields(signatures + " " + anchorGetters) {
			n := 32 * max(words[signature], 1)
			dirty := append(bytes.Repeat([]byte{0xff}, n-32), append([]byte{1}, make([]byte, 31)...)...)
			for _, output := range [][]byte{nil, make([]byte, n-1), make([]byte, n+1), make([]byte, n+32), dirty} {
				if n == 32 && len(output) == 32 && (strings.HasPrefix(signature, "countered") || signature == "rootClaim()") {
					continue // it may be any word
				}
				calls, want := open, l1.Providers
				if strings.Contains(anchorGetters, signature) {
					calls, want = final, l1.Proposed
				}
				if p, says := read(calls, signature, output); p.Trust != want || !strings.Contains(says, signature) {
					t.Errorf("%s answers %x: block %d is %s by block %d (%s), want %s", signature, output, audited, p.Trust, p.Block, says, want)
				}
			}
		}
	}
}
