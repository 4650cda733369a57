package testchain_test

import (
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

func TestChainsListenOnPortsOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for range 3 {
		u, err := url.Parse(start(t, testchain.Options{}).URL())
		must(t, err)
		if !net.ParseIP(u.Hostname()).IsLoopback() || u.Port() == "0" || seen[u.Port()] {
			t.Errorf("%s is not a local URL with its own port, after %v", u, seen)
		}
		seen[u.Port()] = true
	}
}

func TestChainIDIsTheOneAskedFor(t *testing.T) {
	for want, o := range map[uint64]testchain.Options{1337: {}, 8453: {ChainID: 8453}} {
		c := start(t, o)
		id, err := ethclient.NewClient(dial(t, c)).ChainID(t.Context())
		if err != nil || id.Uint64() != want {
			t.Errorf("chain id: got %s, %v, want %d", id, err, want)
		}
		deploy(t, c, testchain.Plain) // transactions are signed for that id
	}
}

func TestBatchesAreTakenUpToTheLimit(t *testing.T) {
	for _, row := range []struct {
		name    string
		limit   int
		calls   int
		refused bool
	}{
		{"two thousand calls pass a node without a limit", 0, 2000, false},
		{"ten calls pass a node that takes ten", 10, 10, false},
		{"eleven calls are too many for a node that takes ten", 10, 11, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			batch := make([]rpc.BatchElem, row.calls)
			for i := range batch {
				batch[i] = rpc.BatchElem{Method: "eth_chainId", Result: new(hexutil.Big)}
			}
			must(t, dial(t, start(t, testchain.Options{BatchLimit: row.limit})).BatchCallContext(t.Context(), batch))
			if refused := batch[len(batch)-1].Error != nil; refused != row.refused {
				t.Errorf("last call: %v", batch[len(batch)-1].Error)
			}
		})
	}
}

func TestACallAtABlockHash(t *testing.T) {
	c := start(t, testchain.Options{})
	k := deploy(t, c, testchain.Plain)
	before := c.Commit()
	must(t, k.AllowDevice(t.Context(), id(1)))
	undone := c.Commit()
	head, err := c.Reorg(t.Context(), 2)
	must(t, err)

	const yes, no = "0x0000000000000000000000000000000000000000000000000000000000000001",
		"0x0000000000000000000000000000000000000000000000000000000000000000"
	for _, row := range []struct {
		name  string
		block map[string]any
		want  string // the result, or the error's text
	}{
		{"at the head says what the new branch says", hash(head, true), no},
		{"at an ancestor of both branches works", hash(before, true), no},
		{"at an undone block fails where it must be canonical", hash(undone, true), "hash is not currently canonical"},
		{"at an undone block still answers where it need not", hash(undone, false), yes},
		{"at an unknown block fails", hash(common.Hash{1}, true), "header for hash not found"},
		{"at an unknown block fails where it need not be canonical", hash(common.Hash{1}, false), "header for hash not found"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var got string
			msg := map[string]any{"to": k.Address(), "data": "0x13eb9770" + strings.TrimPrefix(id(1).Hex(), "0x")}
			if err := dial(t, c).CallContext(t.Context(), &got, "eth_call", msg, row.block); err != nil {
				got = err.Error()
			}
			if d := cmp.Diff(row.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func hash(h common.Hash, canonical bool) map[string]any {
	return map[string]any{"blockHash": h, "requireCanonical": canonical}
}

func TestAReorgDropsTheTransactionsItUndoes(t *testing.T) {
	c := start(t, testchain.Options{})
	k := deploy(t, c, testchain.Plain)
	must(t, k.AllowDevice(t.Context(), id(1)))
	_, err := c.Reorg(t.Context(), 1)
	must(t, err)
	must(t, k.AllowDevice(t.Context(), id(2)))
	for n, want := range map[byte]bool{1: false, 2: true} {
		if out, err := k.Call(t.Context(), "kmsAllowedDeviceIds", id(n)); err != nil || out[0] != want {
			t.Errorf("device %d: got %v, %v, want %t", n, out, err, want)
		}
	}
	if _, err := c.Reorg(t.Context(), 1000); err == nil {
		t.Error("Reorg undid more blocks than there are")
	}
}

func TestOldStateIsPruned(t *testing.T) {
	c := start(t, testchain.Options{})
	k := deploy(t, c, testchain.Plain)
	for range 200 {
		c.Commit()
	}
	var out hexutil.Bytes
	err := dial(t, c).CallContext(t.Context(), &out, "eth_getCode", k.Address(), "0x2")
	if err == nil || !strings.Contains(err.Error(), "is not available") {
		t.Errorf("code 200 blocks ago: got %d bytes, %v", len(out), err)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	// The node's peer database leaves a goroutine running for up to 30 seconds.
	janitor := goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain")
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), janitor)
	c, err := testchain.Start(testchain.Options{})
	must(t, err)
	if _, err := c.Deploy(t.Context(), testchain.DeployOptions{}); err != nil {
		t.Error(err)
	}
	must(t, c.Close())
	must(t, c.Close())
	if conn, err := net.Dial("tcp", strings.TrimPrefix(c.URL(), "http://")); err == nil {
		_ = conn.Close()
		t.Error("the port still listens")
	}
}
