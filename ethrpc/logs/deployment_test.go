package logs_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/logs"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

func TestDeploymentBlockIsTheFirstBlockWithCode(t *testing.T) {
	chain, err := testchain.Start(testchain.Options{Preload: []testchain.Preload{{Address: common.Address{7}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chain.Close() })
	births := map[common.Address]uint64{{7}: 0}
	for range 3 {
		for range 10 {
			chain.Commit()
		}
		kms, err := chain.Deploy(t.Context(), testchain.DeployOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if births[kms.Address()], err = chain.Client().BlockNumber(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	head, err := chain.Client().BlockNumber(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, chain.URL())
	for contract, want := range births {
		if got, err := c.DeploymentBlock(t.Context(), contract, head); err != nil || got != want {
			t.Errorf("DeploymentBlock = %d, %v; want %d", got, err, want)
		}
	}
	if _, err := c.DeploymentBlock(t.Context(), common.Address{8}, head); err == nil || !strings.Contains(err.Error(), "has no code at block") {
		t.Errorf("DeploymentBlock of nothing = %v", err)
	}
}

func TestDeploymentBlockAsksForFromBlockWhereStateIsGone(t *testing.T) {
	w := newWorld(t)
	for range 300 { // the node keeps the state of 128 blocks
		w.Chain.Commit()
	}
	head, err := w.Chain.Client().BlockNumber(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = newClient(t, w.Chain.URL()).DeploymentBlock(t.Context(), w.KMS.Address(), head)
	if !errors.Is(err, ethrpc.ErrNoState) || !strings.Contains(err.Error(), "set from_block of the contract") {
		t.Errorf("DeploymentBlock = %v, want the plea for from_block", err)
	}
}

func TestDeploymentBlockGoesOnWithTheNextProvider(t *testing.T) {
	w := newWorld(t)
	head, err := w.Chain.Client().BlockNumber(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []rpcfault.Fault{
		rpcfault.Status(500, ""),
		rpcfault.ChainID(1),
		rpcfault.Refuse("eth_getCode", -32000, "missing trie node"),
		rpcfault.Refuse("eth_getCode", -32603, "Internal error"),
		answers("no hex", "eth_getCode", `"code"`),
	} {
		t.Run(f.Name, func(t *testing.T) {
			w.Proxy.Set(f)
			if _, err := newClient(t, w.URL).DeploymentBlock(t.Context(), w.KMS.Address(), head); err == nil {
				t.Error("a provider that answers nothing found the block")
			}
			if got, err := newClient(t, w.URL, w.Chain.URL()).DeploymentBlock(t.Context(), w.KMS.Address(), head); err != nil || got != 2 {
				t.Errorf("DeploymentBlock = %d, %v; want 2", got, err)
			}
		})
	}
}

func TestTxInfoAreToldAsFarAsTheyAreKnown(t *testing.T) {
	w := newWorld(t)
	receipt, err := w.KMS.Send(t.Context(), "addKmsDevice", common.Hash{9})
	if err != nil {
		t.Fatal(err)
	}
	header, err := w.Chain.Client().HeaderByHash(t.Context(), receipt.BlockHash)
	if err != nil {
		t.Fatal(err)
	}
	made := time.Unix(int64(header.Time), 0).UTC()
	owner := testchain.Address("owner")
	place := logs.Ref{Block: receipt.BlockHash, Tx: receipt.TxHash}
	nowhere := logs.Ref{Block: receipt.BlockHash, Tx: common.Hash{1}}
	orphan := logs.Ref{Block: common.Hash{1}, Tx: receipt.TxHash}

	for _, tt := range []struct {
		name  string
		fault rpcfault.Fault
		want  logs.TxInfo
	}{
		{"a provider that knows all", rpcfault.Fault{}, logs.TxInfo{BlockTime: made, Sender: owner, To: w.KMS.Address()}},
		{"a provider without transactions", rpcfault.Refuse("eth_getTransactionByHash", -32601, "no"), logs.TxInfo{BlockTime: made}},
		{"a provider without blocks", answers("", "eth_getBlockByHash", "null"), logs.TxInfo{Sender: owner, To: w.KMS.Address()}},
		{"a provider of other blocks", answers("", "eth_getBlockByHash", `{"number":"0x1","hash":"`+common.Hash{2}.Hex()+`","timestamp":"0x1"}`), logs.TxInfo{Sender: owner, To: w.KMS.Address()}},
		{"a provider of null transactions", answers("", "eth_getTransactionByHash", "null"), logs.TxInfo{BlockTime: made}},
		{"a provider that is down", rpcfault.Status(500, ""), logs.TxInfo{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.Proxy.Set(tt.fault)
			got := newClient(t, w.URL).TxInfo(t.Context(), []logs.Ref{place, nowhere, orphan, place})
			if len(got) != 3 || got[place] != tt.want || got[nowhere] != (logs.TxInfo{BlockTime: tt.want.BlockTime}) || got[orphan] != (logs.TxInfo{}) {
				t.Errorf("TxInfo = %v, want %v", got, tt.want)
			}
			got = newClient(t, w.URL, w.Chain.URL()).TxInfo(t.Context(), []logs.Ref{place})
			if got[place] != (logs.TxInfo{BlockTime: made, Sender: owner, To: w.KMS.Address()}) {
				t.Errorf("with a second provider: TxInfo = %v", got)
			}
		})
	}
}
