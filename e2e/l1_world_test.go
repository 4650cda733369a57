//go:build e2e

package e2e_test

import (
	"encoding/json"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi/bind/v2"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/beacon"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// l1World is an L2 with a KMS on one node, and its L1 on another node. A beacon chain finalizes L1's blocks.
type l1World struct {
	l1, l2     *node
	kms        *testchain.KMS
	device     common.Hash // allowed by API and contract
	other      common.Hash // denied by the API
	api        *api
	beacon     *beacon.Chain
	beaconDown atomic.Bool
	checkpoint common.Hash
	settings   settings
}

// l1Key is in the URLs of L1's provider and beacon endpoint, and must not appear anywhere else.
const l1Key = "key-5e1f70"

// startEarly starts a node with one block each second, because a slot of the beacon chain has one block. anvil starts so early that
// no block is in the future; for geth the test waits.
func startEarly(t testing.TB, name string) *node {
	t.Helper()
	if name == "geth" {
		return startNode(t, name)
	}
	n := startNode(t, name, "--slots-in-an-epoch", "1", "--timestamp", strconv.FormatInt(time.Now().Add(-20*time.Minute).Unix(), 10))
	must(t, n.client.Client().CallContext(t.Context(), nil, "anvil_setBlockTimestampInterval", 1))
	return n
}

func newL1World(t testing.TB, l1, l2 string) *l1World {
	t.Helper()
	w := &l1World{l1: startEarly(t, l1), l2: startEarly(t, l2), api: startAPI(t), device: common.Hash{31: 1}, other: common.Hash{31: 2}}
	w.kms = w.l2.deploy(t)
	must(t, w.kms.AllowDevice(t.Context(), w.device))
	must(t, w.api.put(w.l2.claim(w.kms.Address(), []fakeapi.Device{{ID: w.device.Hex(), Allowed: new(true)}, {ID: w.other.Hex(), Allowed: new(false)}}, nil)))
	w.beacon = beacon.New(beacon.Options{GenesisTime: w.l1.header(t, 1).Time, EpochsPerPeriod: 1024})
	w.checkpoint = w.finalize(t)
	spec, err := json.Marshal(w.beacon.Spec())
	must(t, err)
	network := filepath.Join(t.TempDir(), "network.json")
	must(t, os.WriteFile(network, spec, 0o600))
	endpoint := testenv.Serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.beaconDown.Load() {
			http.Error(rw, "out of order", http.StatusServiceUnavailable)
			return
		}
		http.StripPrefix("/"+l1Key, w.beacon).ServeHTTP(rw, r)
	}))
	w.settings = w.l2.settings(w.api)
	w.settings.Chains[0].Block = "safe"
	w.settings.Chains = append(w.settings.Chains, chainSettings{
		Name: "ethereum", ChainID: w.l1.chainID, Claims: "none",
		Providers: []providerSettings{{Name: "l1node", URL: w.l1.proxied + "/" + l1Key, Timeout: "2s"}},
		Anchor:    &anchorSettings{Beacon: []providerSettings{{Name: "beacon1", URL: endpoint + "/" + l1Key}}, Checkpoint: w.checkpoint.Hex(), Network: network},
	})
	return w
}

// asks runs kms-auditor, and checks that its output does not have the key.
func (w *l1World) asks(t testing.TB, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	exit, stdout, stderr = runAuditor(t, args...)
	if strings.Contains(stdout+stderr, l1Key) {
		t.Errorf("kms-auditor %s shows the key:\n%s%s", args, stdout, stderr)
	}
	return exit, stdout, stderr
}

// header returns the header of a block, or of the newest one.
func (n *node) header(t testing.TB, number int64) *types.Header {
	t.Helper()
	at := big.NewInt(number)
	if number < 0 {
		at = nil
	}
	h, err := n.client.HeaderByNumber(t.Context(), at)
	must(t, err)
	return h
}

// settle waits until a node's newest block is not in the future, and returns it.
func (n *node) settle(t testing.TB) *types.Header {
	t.Helper()
	h := n.header(t, -1)
	time.Sleep(time.Until(time.Unix(int64(h.Time), 0)))
	return h
}

// mine adds blocks to L2.
func (w *l1World) mine(t testing.TB, blocks int) {
	t.Helper()
	for range blocks {
		must(t, w.kms.AllowDevice(t.Context(), w.device))
	}
}

// finalize makes L1's newest block final.
func (w *l1World) finalize(t testing.TB) common.Hash {
	t.Helper()
	return w.beacon.Finalize(w.l1.settle(t))
}

// root returns the output root of a block of L2's node.
func (w *l1World) root(t testing.TB, n uint64) common.Hash {
	t.Helper()
	h := w.l2.header(t, int64(n))
	return crypto.Keccak256Hash(make([]byte, 32), h.Root[:], h.WithdrawalsHash[:], h.Hash().Bytes())
}

// l1Rollup has the L2's contracts on L1, and the settings that name them.
type l1Rollup struct {
	*l1World
	*testchain.Rollup
	settings settings
	start    uint64           // block of the anchor root
	games    []common.Address // oldest first
}

// deployL1 deploys the contracts with the anchor root of a block.
func (w *l1World) deployL1(t testing.TB, start uint64) *l1Rollup {
	t.Helper()
	contracts, err := testchain.DeployRollup(t.Context(), w.l1.client, w.l2.chainID, testchain.DeployOptions{})
	must(t, err)
	r := &l1Rollup{l1World: w, Rollup: contracts, settings: w.settings, start: start}
	r.send(t, testchain.RollupRegistry, "setStarting", w.root(t, start), new(big.Int).SetUint64(start))
	l2 := w.settings.Chains[0]
	l2.Anchor = &anchorSettings{L1: "ethereum", SystemConfig: r.At[testchain.RollupConfig].Hex()}
	r.settings.Chains = []chainSettings{l2, w.settings.Chains[1]}
	r.settings.State = filepath.Join(t.TempDir(), "state")
	return r
}

func (r *l1Rollup) send(t testing.TB, name, method string, args ...any) {
	t.Helper()
	must(t, r.Send(t.Context(), name, method, args...))
}

// proposal returns a true proposal for the blocks from the parent game, or the anchor root, up to a given block, with a root every
// third block.
func (r *l1Rollup) proposal(t testing.TB, from, to uint64) testchain.Proposal {
	t.Helper()
	p := testchain.Proposal{Block: to}
	for n := from + 3; n <= to; n += 3 {
		p.Roots = append(p.Roots, r.root(t, n))
	}
	return p
}

func (r *l1Rollup) propose(t testing.TB, p testchain.Proposal) {
	t.Helper()
	game, err := r.Propose(t.Context(), p)
	must(t, err)
	r.games = append(r.games, game)
}

// claimAll makes L1 finalize a game for the blocks up to the newest. It may add up to three blocks.
func (r *l1Rollup) claimAll(t testing.TB, from uint64) (to uint64) {
	t.Helper()
	for to = r.l2.header(t, -1).Number.Uint64(); to == from || (to-from)%3 != 0; to++ {
		r.mine(t, 1)
	}
	p := r.proposal(t, from, to)
	if len(r.games) > 0 {
		p.Parent = r.last()
	}
	r.propose(t, p)
	r.finalize(t)
	return to
}

// last returns the newest game.
func (r *l1Rollup) last() common.Address { return r.games[len(r.games)-1] }

// ask calls a getter on L1's node. It returns nil if the contract has no such getter.
func (r *l1Rollup) ask(t testing.TB, name string, at common.Address, method string, args ...any) any {
	t.Helper()
	a, err := testchain.Contract(name)
	must(t, err)
	var out []any
	c := r.l1.client
	if err := bind.NewBoundContract(at, a.ABI, c, c, c).Call(&bind.CallOpts{Context: t.Context()}, &out, method, args...); err != nil {
		if !strings.Contains(err.Error(), "revert") {
			t.Fatal(err)
		}
		return nil
	}
	return out[0]
}

// holds returns who vouches for a block of L2's node according to the contracts on L1's node.
func (r *l1Rollup) holds(t testing.TB, block uint64) audit.Trust {
	t.Helper()
	trust := audit.TrustProviders
	for _, game := range r.games {
		start, known := r.game(t, game, "startingBlockNumber").(*big.Int)
		end, ends := r.game(t, game, "l2SequenceNumber").(*big.Int)
		switch {
		case !known || !ends || start.Uint64() >= block || end.Uint64() < block:
		case r.game(t, game, "rootClaim") != [32]byte(r.root(t, end.Uint64())):
		case r.registry(t, "isGameClaimValid", game) == true:
			return audit.TrustL1Anchored
		case r.counts(t, game):
			trust = audit.TrustL1Proposed
		}
	}
	return trust
}

// counts reports whether a game and its ancestors are proven and not refuted.
func (r *l1Rollup) counts(t testing.TB, game common.Address) bool {
	t.Helper()
	status, known := r.game(t, game, "status").(uint8)
	proofs, _ := r.game(t, game, "proofCount").(uint8)
	countered, _ := r.game(t, game, "counteredByIntermediateRootIndexPlusOne").(*big.Int)
	parent, _ := r.game(t, game, "parentAddress").(common.Address)
	return known && status != 1 && proofs > 0 && countered != nil && countered.Sign() == 0 &&
		r.registry(t, "isGameProper", game) == true && r.registry(t, "isGameRespected", game) == true &&
		r.game(t, game, "gameType") == r.registry(t, "respectedGameType") &&
		(parent == r.At[testchain.RollupRegistry] || r.counts(t, parent))
}

// newest returns the newest block claimed by a game that counts, and the anchor's block.
func (r *l1Rollup) newest(t testing.TB) (proposed, anchored uint64) {
	t.Helper()
	if root, known := r.registry(t, "getAnchorRoot").([32]byte); known && root != [32]byte{} {
		anchored = r.start
		if game, _ := r.registry(t, "anchorGame").(common.Address); game != (common.Address{}) {
			end, _ := r.game(t, game, "l2SequenceNumber").(*big.Int)
			anchored = end.Uint64()
		}
	}
	proposed = anchored
	for _, game := range r.games {
		if end, known := r.game(t, game, "l2SequenceNumber").(*big.Int); known && r.counts(t, game) {
			proposed = max(proposed, end.Uint64())
		}
	}
	return proposed, anchored
}

func (r *l1Rollup) game(t testing.TB, at common.Address, method string) any {
	t.Helper()
	return r.ask(t, testchain.RollupGame, at, method)
}

func (r *l1Rollup) registry(t testing.TB, method string, args ...any) any {
	t.Helper()
	return r.ask(t, testchain.RollupRegistry, r.At[testchain.RollupRegistry], method, args...)
}
