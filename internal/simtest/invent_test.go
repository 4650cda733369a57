package simtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// invented is a chain that a provider invents. It forks from the node's chain after a block. Its state is that of a block that the
// node reorganised away, so that all of it can be proven.
type invented struct {
	fork   uint64 // the last block that is real
	blocks []*types.Header
	state  json.RawMessage // the block that the node is asked about instead
	hides  int             // 1: blocks by number, 2: real blocks by hash

	contradicts bool // it lacks finalized blocks
}

// invent makes a provider serve an invented chain. The act's list says what it hides and whether it contradicts finalized blocks;
// the act's ID is its length.
func (w *world) invent(ctx context.Context, a act) error {
	if a.N >= w.Providers {
		return nil
	}
	before, err := w.head(ctx)
	if err == nil {
		err = w.falsify(ctx)
	}
	if err != nil {
		return err
	}
	made, err := w.Client().HeaderByNumber(ctx, nil)
	if err == nil {
		err = w.undo(ctx, made.Number.Uint64()-before)
	}
	if err != nil {
		return err
	}
	head, err := w.head(ctx)
	if err != nil {
		return err
	}
	v := &invented{fork: head / 32 * 32, hides: a.List % 3, state: json.RawMessage(fmt.Sprintf(`{"blockHash":%q}`, made.Hash()))}
	if v.contradicts = a.List < 3; v.contradicts {
		v.fork -= min(v.fork, 5)
	}
	parent, err := w.Client().HeaderByNumber(ctx, new(big.Int).SetUint64(v.fork))
	if err != nil {
		return err
	}
	for v.tip() < max([...]uint64{0, head, head + 40}[a.ID], v.fork+3) {
		h := types.CopyHeader(parent)
		h.Number, h.ParentHash, h.Root, h.Time = new(big.Int).SetUint64(v.tip()+1), parent.Hash(), made.Root, parent.Time+1
		h.Extra, h.Bloom, h.TxHash, h.ReceiptHash = fmt.Appendf(nil, "invented by %d", a.N), types.Bloom{}, types.EmptyTxsHash, types.EmptyReceiptsHash
		v.blocks, parent = append(v.blocks, h), h
	}
	if w.ills[a.N] = a.What; w.beacon != nil {
		w.beacon.lies = append(w.beacon.lies, v)
	}
	w.doors[a.N].Set(v.serve())
	return nil
}

// falsify makes the API's claim true on the invented chain, which hides drift. If the claim is true already, it makes it false.
func (w *world) falsify(ctx context.Context) error {
	newest, err := w.Client().HeaderByNumber(ctx, nil)
	if err != nil {
		return err
	}
	var differ, all []act
	for n := range w.Contracts {
		is, err := w.contract(ctx, newest.Hash(), w.at[n])
		if err != nil {
			return err
		}
		for i := range 2 * listed {
			list, id := i/listed, i%listed
			allowed := is.allowed[list][id]
			all = append(all, act{map[bool]string{true: "remove", false: "add"}[allowed], n, list, id})
			if says := w.api.truth[n].allowed[list][id] != slices.Contains(w.api.edits, act{"flip", n, list, id}); says != allowed {
				differ = append(differ, all[len(all)-1])
			}
		}
	}
	if len(differ) == 0 {
		differ = all[:1]
	}
	for _, a := range differ {
		if err := w.operate(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

func (v *invented) tip() uint64 { return v.fork + uint64(len(v.blocks)) }

// number returns the number of the block in a parameter: a tag, a number or an invented hash.
func (v *invented) number(p json.RawMessage) (n uint64, ok bool) {
	var of struct{ BlockHash, ToBlock string }
	var text string
	if json.Unmarshal(p, &text) != nil && json.Unmarshal(p, &of) == nil {
		text = of.BlockHash + of.ToBlock
	}
	switch {
	case text == "latest" || text == "safe" || text == "pending":
		return v.tip(), true
	case text == "finalized":
		return v.tip() / 32 * 32, true
	case len(text) == 66:
		i := slices.IndexFunc(v.blocks, func(h *types.Header) bool { return h.Hash() == common.HexToHash(text) })
		return v.fork + uint64(i) + 1, i >= 0
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "0x"), 16, 64)
	return n, strings.HasPrefix(text, "0x") && len(text) < 20 && err == nil
}

func (v *invented) serve() rpcfault.Fault {
	return rpcfault.Fault{
		Ask: func(c *rpcfault.Call) {
			for i, p := range c.Params {
				n, ok := v.number(p)
				filter := map[string]json.RawMessage{}
				switch {
				case !ok:
				case c.Method == "eth_getLogs" && json.Unmarshal(p, &filter) == nil:
					filter["toBlock"] = json.RawMessage(fmt.Sprintf("%q", hexutil.EncodeUint64(min(n, v.fork))))
					c.Params[i], _ = json.Marshal(filter)
				case n > v.fork:
					c.Params[i] = v.state
				default:
					c.Params[i] = json.RawMessage(fmt.Sprintf("%q", hexutil.EncodeUint64(n)))
				}
			}
		},
		Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
			if len(c.Params) == 0 {
				return
			}
			n, ok := v.number(c.Params[0])
			var from struct{ BlockHash, FromBlock json.RawMessage }
			_ = json.Unmarshal(c.Params[0], &from) // of logs
			first, ranged := v.number(from.FromBlock)
			answer := ""
			switch byNumber := strings.HasPrefix(string(c.Params[0]), `"0x`); {
			case c.Method == "eth_getBlockByNumber" && (n > v.tip() || byNumber && v.hides == 1), c.Method == "eth_getBlockByHash" && !ok && v.hides == 2:
				answer = "null"
			case strings.HasPrefix(c.Method, "eth_getBlockBy") && ok && n > v.fork:
				b, _ := v.blocks[n-v.fork-1].MarshalJSON()
				answer = strings.Replace(string(b), "{", `{"transactions":[],"uncles":[],"size":"0x1",`, 1)
			case c.Method == "eth_getBlockReceipts" && ok && n > v.fork, c.Method == "eth_getLogs" && ok && (from.BlockHash != nil || ranged && first > v.fork):
				answer = "[]"
			default:
				return
			}
			a.Result, a.Error = json.RawMessage(answer), nil
		},
	}
}
