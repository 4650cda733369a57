package testchain_test

import (
	"context"
	"math/big"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

func TestGettersAnswerThroughTheProxyOverHTTP(t *testing.T) {
	c := start(t, testchain.Options{})
	k := deploy(t, c, testchain.Plain)
	must(t, k.AllowDevice(t.Context(), id(1)))
	must(t, k.AllowImage(t.Context(), id(2)))
	_, err := k.Send(t.Context(), "setGatewayAppId", "gate")
	must(t, err)
	_, err = k.Send(t.Context(), "setKmsInfo", info{[]byte{1}, []byte{2}, make([]byte, 4000), nil})
	must(t, err)

	a, err := testchain.Contract(testchain.Plain)
	must(t, err)
	for _, row := range []struct {
		method string
		args   []any
		want   []any
	}{
		{"kmsAllowedDeviceIds", []any{id(1)}, []any{true}},
		{"kmsAllowedDeviceIds", []any{id(2)}, []any{false}},
		{"allowedOsImages", []any{id(2)}, []any{true}},
		{"allowedOsImages", []any{id(1)}, []any{false}},
		{"kmsAllowedAggregatedMrs", []any{id(1)}, []any{false}},
		{"registeredApps", []any{k.Address()}, []any{false}},
		{"gatewayAppId", nil, []any{"gate"}},
		{"kmsInfo", nil, []any{[]byte{1}, []byte{2}, make([]byte, 4000), []byte{}}},
		{"owner", nil, []any{testchain.Address("owner")}},
		{"pendingOwner", nil, []any{common.Address{}}},
		{"appImplementation", nil, []any{common.Address{}}},
		{"supportsInterface", []any{[4]byte{0x01, 0xff, 0xc9, 0xa7}}, []any{true}},
		{"UPGRADE_INTERFACE_VERSION", nil, []any{"5.0.0"}},
	} {
		input, err := a.ABI.Pack(row.method, row.args...)
		must(t, err)
		var raw hexutil.Bytes
		must(t, dial(t, c).CallContext(t.Context(), &raw, "eth_call",
			map[string]any{"to": k.Address(), "data": hexutil.Bytes(input)}, "latest"))
		got, err := a.ABI.Unpack(row.method, raw)
		must(t, err)
		if d := cmp.Diff(row.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", row.method, d)
		}
	}
}

func TestOnlyTheOwnerWrites(t *testing.T) {
	c := start(t, testchain.Options{})
	k := deploy(t, c, testchain.Backdoor)
	stranger := k.As(testchain.Key("stranger"))
	for _, w := range []struct {
		method string
		args   []any
	}{
		{"addKmsDevice", []any{id(1)}},
		{"removeKmsDevice", []any{id(1)}},
		{"addOsImageHash", []any{id(1)}},
		{"removeOsImageHash", []any{id(1)}},
		{"addKmsAggregatedMr", []any{id(1)}},
		{"removeKmsAggregatedMr", []any{id(1)}},
		{"setKmsInfo", []any{info{}}},
		{"setKmsQuote", []any{[]byte{1}}},
		{"setKmsEventlog", []any{[]byte{1}}},
		{"setGatewayAppId", []any{"gate"}},
		{"setAppImplementation", []any{k.Address()}},
		{"transferOwnership", []any{k.Address()}},
		{"sneakDevice", []any{id(1), true}},
		{"sneakImage", []any{id(1), true}},
	} {
		if _, err := stranger.Send(t.Context(), w.method, w.args...); err == nil || !strings.Contains(err.Error(), "execution reverted") {
			t.Errorf("%s by a stranger: got %v", w.method, err)
		}
	}
	if _, err := stranger.Upgrade(t.Context(), testchain.Plain); err == nil {
		t.Error("a stranger upgraded the contract")
	}
	if _, err := stranger.Send(t.Context(), "registerApp", k.Address()); err != nil {
		t.Errorf("a stranger cannot register an app: %v", err)
	}

	must(t, k.TransferOwnership(t.Context(), testchain.Key("stranger")))
	must(t, stranger.AllowDevice(t.Context(), id(1)))
	if err := k.AllowDevice(t.Context(), id(1)); err == nil {
		t.Error("the former owner still writes")
	}
}

func TestWritersEmitTheDocumentedEvents(t *testing.T) {
	v := readVectors(t)
	c := start(t, testchain.Options{})
	k := deploy(t, c, testchain.Plain)
	actor := common.BytesToHash(testchain.Address("owner").Bytes())
	app := common.Address{0: 0xab}

	for _, row := range []struct {
		name   string
		method string
		arg    any
		event  string // with its one argument in data
		policy string
		value  common.Hash
		on     bool
	}{
		{"a device is added", "addKmsDevice", id(1), "KmsDeviceAdded(bytes32)", "kms-device", id(1), true},
		{"a device is added again", "addKmsDevice", id(1), "KmsDeviceAdded(bytes32)", "kms-device", id(1), true},
		{"a device is removed", "removeKmsDevice", id(1), "KmsDeviceRemoved(bytes32)", "kms-device", id(1), false},
		{"a device that is not there is removed", "removeKmsDevice", id(9), "KmsDeviceRemoved(bytes32)", "kms-device", id(9), false},
		{"an image is added", "addOsImageHash", id(2), "OsImageHashAdded(bytes32)", "os-image", id(2), true},
		{"an image is removed", "removeOsImageHash", id(2), "OsImageHashRemoved(bytes32)", "os-image", id(2), false},
		{"a measurement is added", "addKmsAggregatedMr", id(3), "KmsAggregatedMrAdded(bytes32)", "kms-aggregated-mr", id(3), true},
		{"a measurement is removed", "removeKmsAggregatedMr", id(3), "KmsAggregatedMrRemoved(bytes32)", "kms-aggregated-mr", id(3), false},
		{"an app is registered", "registerApp", app, "AppRegistered(address)", "registered-app", common.BytesToHash(app[:]), true},
		{"an app implementation is set", "setAppImplementation", app, "AppImplementationSet(address)", "app-implementation", common.BytesToHash(app[:]), true},
	} {
		t.Run(row.name, func(t *testing.T) {
			receipt, err := k.Send(t.Context(), row.method, row.arg)
			must(t, err)
			on := common.Hash{}
			if row.on {
				on[31] = 1
			}
			type entry struct {
				Topics []common.Hash
				Data   common.Hash
			}
			want := []entry{
				{[]common.Hash{v.Topics[row.event]}, row.value},
				{[]common.Hash{v.Topics["PolicyChanged(address,bytes32,bytes32,bool)"], actor, v.Policies[row.policy], row.value}, on},
			}
			var got []entry
			for _, l := range receipt.Logs {
				if l.Address != k.Address() || len(l.Data) != 32 {
					t.Fatalf("a log of %s with %d bytes", l.Address, len(l.Data))
				}
				got = append(got, entry{l.Topics, common.BytesToHash(l.Data)})
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestWritersOfTextEmitTheDocumentedEvents(t *testing.T) {
	v := readVectors(t)
	c := start(t, testchain.Options{})
	k := deploy(t, c, testchain.Plain)
	for _, row := range []struct {
		method string
		arg    any
		event  string
		data   string
	}{
		{"setGatewayAppId", "gate", "GatewayAppIdSet(string)", "gate"},
		{"setKmsInfo", info{K256Pubkey: []byte("key")}, "KmsInfoSet(bytes)", "key"},
	} {
		receipt, err := k.Send(t.Context(), row.method, row.arg)
		must(t, err)
		text, err := abi.NewType("string", "", nil)
		must(t, err)
		data, err := abi.Arguments{{Type: text}}.Unpack(receipt.Logs[0].Data)
		must(t, err)
		if receipt.Logs[0].Topics[0] != v.Topics[row.event] || data[0] != row.data {
			t.Errorf("%s: got topic %s with %q", row.method, receipt.Logs[0].Topics[0], data[0])
		}
	}
}

func TestTheBackdoorWritesWithoutAnEvent(t *testing.T) {
	c := start(t, testchain.Options{})
	k := deploy(t, c, testchain.Plain)
	ctx := t.Context()
	must(t, k.AllowDevice(ctx, id(1)))
	must(t, k.AllowImage(ctx, id(1)))
	if err := k.SneakDevice(ctx, id(2), true); err == nil {
		t.Error("the back door works before the upgrade")
	}
	_, err := k.Upgrade(ctx, testchain.Backdoor)
	must(t, err)
	last, err := c.Client().BlockNumber(ctx)
	must(t, err)

	for _, list := range []struct {
		getter string
		sneak  func(context.Context, common.Hash, bool) error
	}{{"kmsAllowedDeviceIds", k.SneakDevice}, {"allowedOsImages", k.SneakImage}} {
		must(t, list.sneak(ctx, id(1), false))
		must(t, list.sneak(ctx, id(2), true))
		for n, want := range map[byte]bool{1: false, 2: true} {
			if out, err := k.Call(ctx, list.getter, id(n)); err != nil || out[0] != want {
				t.Errorf("%s of id %d: got %v, %v, want %t", list.getter, n, out, err, want)
			}
		}
	}
	if logs := logsSince(t, c, k, last+1); len(logs) != 0 {
		t.Errorf("the back door left %d logs: %v", len(logs), logs)
	}
	if logs := logsSince(t, c, k, 0); len(logs) == 0 {
		t.Error("the query for logs finds nothing")
	}
}

func logsSince(t *testing.T, c *testchain.Chain, k *testchain.KMS, block uint64) []types.Log {
	t.Helper()
	logs, err := ethclient.NewClient(dial(t, c)).FilterLogs(t.Context(), ethereum.FilterQuery{
		Addresses: []common.Address{k.Address()},
		FromBlock: new(big.Int).SetUint64(block),
	})
	must(t, err)
	return logs
}

func TestSeedFillsBothListsInOneBlock(t *testing.T) {
	c := start(t, testchain.Options{})
	k := deploy(t, c, testchain.Plain)
	before, err := c.Client().BlockNumber(t.Context())
	must(t, err)
	devices, images := ids('d', 500), ids('i', 500)
	must(t, k.Seed(t.Context(), devices, images))
	after, err := c.Client().BlockNumber(t.Context())
	must(t, err)
	if after != before+1 {
		t.Errorf("the seed took %d blocks", after-before)
	}
	for getter, list := range map[string][]common.Hash{"kmsAllowedDeviceIds": devices, "allowedOsImages": images} {
		for _, id := range list {
			if out, err := k.Call(t.Context(), getter, id); err != nil || out[0] != true {
				t.Fatalf("%s of %s: got %v, %v", getter, id, out, err)
			}
		}
	}
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
