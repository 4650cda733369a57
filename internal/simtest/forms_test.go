package simtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// The forms of a contract, besides an ERC-1967 proxy of today's code. A generation's name is a form too: the proxy then starts
// with that code.
const (
	beacon   = "beacon"   // another contract names the implementation
	slots    = "slots"    // the proxy keeps the implementation in slots of its own
	dispatch = "dispatch" // like slots, and the devices have their own implementation
	library  = "library"  // a library answers for the devices, from the contract's storage
	registry = "registry" // another contract answers for the devices, from its own storage
)

// olderThan are the generations before the code of today.
var olderThan = append([]string{testchain.Shifted}, testchain.Generations[:len(testchain.Generations)-1]...)

// after returns the generation after one. After any other code comes today's.
func after(name string) string {
	all := testchain.Generations
	if name == testchain.Shifted {
		return all[2]
	}
	if i := slices.Index(all, name); i >= 0 && i+1 < len(all) {
		return all[i+1]
	}
	return testchain.Plain
}

// own lists acts that are more frequent for contracts of a form.
func own(form string) []string {
	switch form {
	case "":
		return nil
	case registry:
		return []string{"swap", "list elsewhere", "list elsewhere", "list elsewhere", "unlist elsewhere"}
	case beacon, slots, dispatch, library:
		return []string{"swap"}
	}
	return []string{"newer", "newer", "older", "set app code"}
}

func (d drawer) form() string {
	form := d.one("form", beacon, slots, dispatch, library, registry, "generation", "generation")
	if form == "generation" {
		return d.one("generation", olderThan...)
	}
	return form
}

func (c *config) form(n int) string {
	if n < len(c.Forms) {
		return c.Forms[n]
	}
	return ""
}

// Further code on a node besides testchain's implementations: the same code at other addresses, and equivalent code.
const (
	twin      = "twin"
	rest      = "rest" // of a contract whose devices have an implementation of their own
	registrar = "Registrar"
)

// deployHelpers deploys the contracts that many worlds share.
func (n *node) deployHelpers(ctx context.Context, k *testchain.KMS) (err error) {
	create := func(as, name string, args ...any) {
		if err == nil {
			n.impl[as], err = k.Create(ctx, name, args...)
		}
	}
	for _, name := range append(slices.Clone(olderThan), testchain.Helped, registrar) {
		create(name, name)
	}
	create(twin, testchain.Plain)
	create(rest, testchain.Backdoor)
	for i := range 2 {
		create(fmt.Sprint(library, i), testchain.Library, false)
	}
	if err != nil {
		return err
	}
	code, err := n.Client().CodeAt(ctx, n.impl[library+"0"], nil)
	if err != nil {
		return err
	}
	nonce, err := n.Client().NonceAt(ctx, testchain.Address("owner"), nil)
	if err != nil {
		return err
	}
	n.impl[library+"2"] = crypto.CreateAddress(testchain.Address("owner"), nonce)
	return n.mine(ctx, tx{from: "owner", data: creation(append(code, 0))})
}

// creation returns creation code for a runtime code.
func creation(runtime []byte) []byte {
	// PUSH2 size, DUP1, PUSH1 10, PUSH0, CODECOPY, PUSH0, RETURN
	return append([]byte{0x61, byte(len(runtime) >> 8), byte(len(runtime)), 0x80, 0x60, 0x0a, 0x5f, 0x39, 0x5f, 0xf3}, runtime...)
}

// birth returns the owner's transactions, from a nonce on, that create a contract of a form and what it needs.
func (n *node) birth(form string, nonce uint64) (txs []tx, at common.Address, helpers []common.Address, err error) {
	owner := testchain.Address("owner")
	create := func(name string, args ...any) common.Address {
		a, e := testchain.Contract(name)
		input, f := a.ABI.Pack("", args...)
		err = errors.Join(err, e, f)
		txs = append(txs, tx{from: "owner", data: slices.Concat(a.Bytecode, input)})
		return crypto.CreateAddress(owner, nonce+uint64(len(txs)-1))
	}
	send := func(contract string, to common.Address, method string, args ...any) {
		t, e := callOf(contract, "owner", to, method, args...)
		txs, err = append(txs, t), errors.Join(err, e)
	}
	initialize, e := n.abi.Pack("initialize", owner)
	if err = e; err != nil {
		return nil, at, nil, err
	}
	plain := n.impl[testchain.Plain]
	switch form {
	case "":
		at = create("ERC1967Proxy", plain, initialize)
	case beacon:
		at = create("KmsBehindBeacon", create("KmsBeacon", plain, owner), initialize)
	case slots:
		at = create("KmsDispatch", plain, plain, plain, initialize)
	case dispatch:
		at = create("KmsDispatch", plain, n.impl[rest], n.impl[rest], initialize)
	case library, registry:
		at = create("ERC1967Proxy", n.impl[testchain.Helped], initialize)
		setter, helper := "setLibrary", n.impl[library+"0"]
		if form == registry {
			helpers = []common.Address{create(testchain.Registry), create(testchain.Registry)}
			setter, helper = "setRegistry", helpers[0]
		}
		send(testchain.Helped, at, setter, helper)
	default: // with the storage that an upgrade leaves behind, if the generation has it
		at = create("ERC1967Proxy", n.impl[form], initialize)
		send(testchain.May, at, "registerApp", common.Address{1, 9})
		send(testchain.May, at, "setAppAuthImplementation", common.Address{2, 9})
	}
	return txs, at, helpers, err
}

// callOf returns a transaction that calls one of testchain's contracts.
func callOf(contract, from string, to common.Address, method string, args ...any) (tx, error) {
	a, err := testchain.Contract(contract)
	if err != nil {
		return tx{}, err
	}
	data, err := a.ABI.Pack(method, args...)
	return tx{from, &to, data}, err
}

// upgrade returns the transaction that upgrades a contract to an implementation. Some forms have a separate owner, which never
// changes.
func (w *world) upgrade(n int, is *contract, owner string, impl common.Address) (tx, error) {
	switch form := w.form(n); form {
	case beacon:
		return callOf("KmsBeacon", "owner", is.beacon, "upgradeTo", impl)
	case slots:
		return callOf("KmsDispatch", "owner", w.at[n], "dispatch", impl, impl, impl)
	case dispatch:
		return callOf("KmsDispatch", "owner", w.at[n], "dispatch", impl, w.impl[rest], w.impl[rest])
	}
	return callOf(testchain.Plain, owner, w.at[n], "upgradeToAndCall", impl, []byte{})
}

// reshape returns the transaction that changes what is special about a form.
func (w *world) reshape(a act, is *contract, owner string) (tx, error) {
	form := w.form(a.N)
	switch {
	case a.What == "flood":
		return callOf(registrar, "stranger", w.impl[registrar], "flood", w.at[a.N], common.Address{1, byte(a.ID)}, common.Big32)
	case a.What == "list elsewhere" || a.What == "unlist elsewhere":
		return callOf(testchain.Registry, "owner", is.helper, "set", idOf(device, a.ID), a.What == "list elsewhere")
	case a.What == "newer":
		return w.upgrade(a.N, is, owner, w.impl[after(is.name)])
	case a.What == "older":
		return w.upgrade(a.N, is, owner, w.impl[form])
	case form == library:
		libraries := []string{library + "0", library + "1", library + "2"}
		now := slices.IndexFunc(libraries, func(l string) bool { return w.impl[l] == is.helper })
		return callOf(testchain.Helped, owner, w.at[a.N], "setLibrary", w.impl[libraries[(now+1+a.ID%2)%3]])
	case form == registry:
		all := w.helpers[a.N]
		return callOf(testchain.Helped, owner, w.at[a.N], "setRegistry", all[1-max(slices.Index(all, is.helper), 0)])
	case is.name == testchain.Plain:
		return w.upgrade(a.N, is, owner, w.impl[twin])
	}
	return w.upgrade(a.N, is, owner, w.impl[testchain.Plain])
}

// Storage slots of the forms.
var (
	beaconSlot   = namespace("eip1967.proxy.beacon", false)
	dispatchSlot = crypto.Keccak256Hash([]byte("testchain.dispatch")) // devices, images, the rest, owner
	helperSlot   = crypto.Keccak256Hash([]byte("testchain.helped"))
	beaconPoints = number32(1)
	registryList = number32(1)
)

// layout is the storage layout of an implementation.
type layout struct {
	lists        [2]common.Hash
	measurements common.Hash
	apps, counts bool        // counts: it counts the apps of each caller
	appCode      common.Hash // zero if it has none
}

// layoutOf returns the layout of an implementation by name.
func layoutOf(name string) layout {
	l := layout{lists: plainLists, measurements: number32(6), apps: true, appCode: number32(9)}
	switch name {
	case testchain.Shifted:
		return layout{lists: [2]common.Hash{number32(6), number32(7)}, measurements: number32(5), appCode: number32(8)}
	case testchain.Generations[0]:
		l.appCode, l.counts = common.Hash{}, true
	case testchain.Generations[1]:
		l.appCode, l.counts = number32(10), true
	case testchain.Moved:
		l.lists = movedLists
	}
	return l
}

// nameOf returns the name of an implementation, or "".
func (n *node) nameOf(impl common.Address) string {
	for name, at := range n.impl {
		if at == impl {
			return name
		}
	}
	return ""
}

// fewLogs is the number of logs that a limited provider serves at once. A flood has more.
const fewLogs = 20

// Limits of providers: what they serve of a block with more logs.
const (
	wholeReceipts = "the receipts of a block"
	eachReceipt   = "single receipts"
	noReceipts    = "no receipts"
)

// limited makes a provider refuse what is above its limit.
func limited(limit string) rpcfault.Fault {
	few := rpcfault.Fault{Name: "few logs", Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		var logs []json.RawMessage
		if c.Method == "eth_getLogs" && json.Unmarshal(a.Result, &logs) == nil && len(logs) > fewLogs {
			rpcfault.Refuse(c.Method, -32005, fmt.Sprintf("query returned more than %d results", fewLogs)).Reply(c, a)
		}
	}}
	refuse := func(method string) rpcfault.Fault { return rpcfault.Refuse(method, -32601, "no such method") }
	switch limit {
	case eachReceipt:
		return rpcfault.Join(few, refuse("eth_getBlockReceipts"))
	case noReceipts:
		return rpcfault.Join(few, refuse("eth_getBlockReceipts"), refuse("eth_getTransactionReceipt"))
	}
	return few
}
