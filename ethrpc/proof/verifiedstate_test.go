package proof_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

const chainID = 1337

// provider is a real node with one pinned block.
type provider struct {
	*testchain.Chain
	rpc    *rpc.Client
	header *types.Header
}

func start(t testing.TB, o testchain.Options) *provider {
	t.Helper()
	c, err := testchain.Start(o)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	r, err := rpc.DialContext(t.Context(), c.URL())
	must(t, err)
	t.Cleanup(r.Close)
	p := &provider{Chain: c, rpc: r}
	p.pin(t)
	return p
}

func (p *provider) deploy(t testing.TB, implementation string) *testchain.KMS {
	t.Helper()
	k, err := p.Deploy(t.Context(), testchain.DeployOptions{Implementation: implementation})
	must(t, err)
	return k
}

// pin pins the newest block for world and supply.
func (p *provider) pin(t testing.TB) {
	t.Helper()
	raw, hash := p.block(t, "latest")
	b, err := proof.EncodeHeader(raw)
	must(t, err)
	p.header, err = proof.Header(b, hash)
	must(t, err)
}

func (p *provider) block(t testing.TB, tag string) (json.RawMessage, common.Hash) {
	t.Helper()
	var raw json.RawMessage
	must(t, p.rpc.CallContext(t.Context(), &raw, "eth_getBlockByNumber", tag, false))
	var id struct{ Hash common.Hash }
	must(t, json.Unmarshal(raw, &id))
	return raw, id.Hash
}

func (p *provider) world() *proof.VerifiedState { return proof.New(p.header, chainID) }

// proofs is eth_getProof's answer.
type proofs struct {
	AccountProof []hexutil.Bytes
	StorageProof []struct{ Proof []hexutil.Bytes }
}

func (p proofs) account() [][]byte   { return plain(p.AccountProof) }
func (p proofs) slot(i int) [][]byte { return plain(p.StorageProof[i].Proof) }

func plain(list []hexutil.Bytes) [][]byte {
	out := make([][]byte, len(list))
	for i, b := range list {
		out[i] = b
	}
	return out
}

func (p *provider) proofs(t testing.TB, addr common.Address, keys ...common.Hash) proofs {
	t.Helper()
	var out proofs
	for part := range slices.Chunk(append(keys, common.Hash{}), 1000) { // the node takes 1,024 at once
		var got proofs
		must(t, p.rpc.CallContext(t.Context(), &got, "eth_getProof", addr, part, hexutil.EncodeBig(p.header.Number)))
		out.AccountProof = got.AccountProof
		out.StorageProof = append(out.StorageProof, got.StorageProof...)
	}
	return out
}

func (p *provider) code(t testing.TB, addr common.Address) hexutil.Bytes {
	t.Helper()
	var code hexutil.Bytes
	must(t, p.rpc.CallContext(t.Context(), &code, "eth_getCode", addr, hexutil.EncodeBig(p.header.Number)))
	return code
}

// supply proves what is missing, including the code of missing accounts.
func (p *provider) supply(t testing.TB, w *proof.VerifiedState, m proof.Missing) {
	t.Helper()
	for _, a := range m.Accounts {
		must(t, w.AddAccount(a, p.proofs(t, a).account()))
		if account, _ := w.Account(a); account != nil {
			must(t, w.AddCode(p.code(t, a)))
		}
	}
	byAccount := map[common.Address][]common.Hash{}
	for _, s := range m.Slots {
		byAccount[s.Account] = append(byAccount[s.Account], s.Key)
	}
	for a, keys := range byAccount {
		got := p.proofs(t, a, keys...)
		for i, key := range keys {
			must(t, w.AddSlot(a, key, got.slot(i)))
		}
	}
	for _, a := range m.Codes {
		must(t, w.AddCode(p.code(t, a)))
	}
}

// call proves and calls until nothing is missing, and returns the number of calls.
func (p *provider) call(t testing.TB, w *proof.VerifiedState, to common.Address, data []byte) (proof.Result, int) {
	t.Helper()
	for rounds := 1; rounds <= 10; rounds++ {
		res, err := w.Call(t.Context(), to, data)
		must(t, err)
		if res.Missing.Empty() {
			return res, rounds
		}
		p.supply(t, w, res.Missing)
	}
	t.Fatal("something is still missing after ten rounds")
	return proof.Result{}, 0
}

// ethCall returns the node's own answer.
func (p *provider) ethCall(t testing.TB, to common.Address, data []byte) ([]byte, bool) {
	t.Helper()
	var out hexutil.Bytes
	err := p.rpc.CallContext(t.Context(), &out, "eth_call", map[string]any{"to": to, "data": hexutil.Bytes(data)}, hexutil.EncodeBig(p.header.Number))
	var revert rpc.DataError
	if errors.As(err, &revert) {
		text, _ := revert.ErrorData().(string)
		return common.FromHex(text), true
	}
	must(t, err)
	return out, false
}

// pack encodes a call of the contract.
func pack(t testing.TB, method string, args ...any) []byte {
	t.Helper()
	a, err := testchain.Contract(testchain.Backdoor)
	must(t, err)
	b, err := a.ABI.Pack(method, args...)
	must(t, err)
	return b
}

// ids returns n different ids that begin with the byte kind.
func ids(kind byte, n int64) []common.Hash {
	list := make([]common.Hash, n)
	for i := range list {
		list[i] = common.BigToHash(big.NewInt(int64(i)))
		list[i][0] = kind
	}
	return list
}

// flip returns b with bit 3 of one byte inverted.
func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 8
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
