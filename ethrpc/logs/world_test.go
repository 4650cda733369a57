package logs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/logs"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

var listTopics = []common.Hash{
	crypto.Keccak256Hash([]byte("KmsDeviceAdded(bytes32)")),
	crypto.Keccak256Hash([]byte("OsImageHashAdded(bytes32)")),
}

var (
	device = common.HexToHash("0xc84e73c6ce0b01f85606727593be79296c30a41510679c4492aec02dc57407d0")
	image  = common.HexToHash("0x6427f4f5ded88b72d326bd973e581c1689c5080c6444a0cf90fec7d9e4c8b92a")
)

type world struct{ *testenv.World }

func newWorld(t *testing.T) *world { return &world{testenv.Deploy(t, device, image)} }

func newClient(t *testing.T, urls ...string) *ethrpc.Client {
	t.Helper()
	opt := ethrpc.Options{ChainID: 1337, Tags: []ethrpc.BlockTag{ethrpc.Latest}, Verify: ethrpc.VerifyOff, BatchSize: 100, RetryDelay: time.Millisecond}
	for i, u := range urls {
		opt.Providers = append(opt.Providers, ethrpc.Provider{Name: "p" + strconv.Itoa(i+1), URL: sanitize.NewSecret(u), Timeout: 2 * time.Second})
	}
	c, err := ethrpc.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// logWorld is a world of 300 blocks with 42 logs in some of them, and a scan of it all.
type logWorld struct {
	*world
	truth []types.Log
	head  *types.Header

	pieces [][2]uint64
	got    []types.Log
}

func newLogWorld(t *testing.T) *logWorld {
	t.Helper()
	w := &logWorld{world: newWorld(t)}
	for i := range 300 {
		if i%60 != 7 {
			w.Chain.Commit()
			continue
		}
		ids := []common.Hash{{1, byte(i)}, {2, byte(i)}, {3, byte(i)}, {4, byte(i)}}
		if err := w.KMS.Seed(t.Context(), ids, ids); err != nil {
			t.Fatal(err)
		}
	}
	w.refresh(t)
	if len(w.truth) != 42 {
		t.Fatalf("the chain has %d logs, want 42", len(w.truth))
	}
	return w
}

// refresh makes the newest block the end of the scan.
func (w *logWorld) refresh(t *testing.T) {
	t.Helper()
	var err error
	if w.head, err = w.Chain.Client().HeaderByNumber(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	w.truth, err = w.Chain.Client().FilterLogs(t.Context(), ethereum.FilterQuery{
		FromBlock: common.Big0, ToBlock: w.head.Number, Addresses: []common.Address{w.KMS.Address()}, Topics: [][]common.Hash{listTopics},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (w *logWorld) scan() logs.Request {
	w.pieces, w.got = nil, nil
	return logs.Request{
		Contract: w.KMS.Address(), Filters: []logs.Filter{{listTopics}}, To: w.head.Number.Uint64(), ToHash: w.head.Hash(), Step: 200,
		OnBatch: func(from, to uint64, last common.Hash, logs []types.Log) error {
			if h, err := w.Chain.Client().HeaderByNumber(context.Background(), new(big.Int).SetUint64(to)); err != nil || h.Hash() != last {
				return fmt.Errorf("block %d is not %s", to, last)
			}
			w.pieces = append(w.pieces, [2]uint64{from, to})
			w.got = append(w.got, logs...)
			return nil
		},
	}
}

// complete compares the delivered batches with the chain: every block once, in order, and every log.
func (w *logWorld) complete(t *testing.T) {
	t.Helper()
	next := uint64(0)
	for _, p := range w.pieces {
		if p[0] != next || p[1] < p[0] {
			t.Fatalf("the pieces %v are not contiguous", w.pieces)
		}
		next = p[1] + 1
	}
	if next != w.head.Number.Uint64()+1 {
		t.Errorf("the pieces end before block %d, want %d", next, w.head.Number)
	}
	if d := cmp.Diff(w.truth, w.got, cmpopts.IgnoreFields(types.Log{}, "BlockTimestamp")); d != "" {
		t.Errorf("the logs differ from the chain's (-want +got):\n%s", d)
	}
}

// asksLogs returns the block range of an eth_getLogs.
func asksLogs(c rpcfault.Call) (from, to uint64, ok bool) {
	var filter struct{ FromBlock, ToBlock hexutil.Uint64 }
	if c.Method != "eth_getLogs" || json.Unmarshal(c.Params[0], &filter) != nil {
		return 0, 0, false
	}
	return uint64(filter.FromBlock), uint64(filter.ToBlock), true
}
