// Package kms describes the dstack KMS contract: its getters, the storage slots that it uses, and how to decode its answers.
package kms

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/internal/footprint"
)

// Query says what to read from one contract. Its JSON is part of evidence.
type Query struct {
	Contract      common.Address   `json:"contract"`
	Devices       []common.Hash    `json:"devices,omitempty"` // ids to look up in the three allowlists
	OSImages      []common.Hash    `json:"os_images,omitempty"`
	AggregatedMRs []common.Hash    `json:"aggregated_mrs,omitempty"`
	Control       bool             `json:"control,omitempty"`   // read the Control of the contract too
	Apps          []common.Address `json:"apps,omitempty"`      // registered apps, from events; they only explain storage
	Callers       []common.Address `json:"callers,omitempty"`   // who registered apps; they only explain storage
	Slots         []common.Hash    `json:"slots,omitempty"`     // further slots known to be in use
	CodeOnly      bool             `json:"code_only,omitempty"` // only check whether code is deployed

	// Implementations come from events. The getters of earlier ones explain storage that upgrades left behind.
	Implementations []common.Address `json:"implementations,omitempty"`
}

// Getters of the allowlists of DstackKms since May 2025. Each takes a bytes32 and returns a bool.
const (
	AllowedDevice       = "kmsAllowedDeviceIds(bytes32)"
	AllowedOSImage      = "allowedOsImages(bytes32)"
	AllowedAggregatedMR = "kmsAllowedAggregatedMrs(bytes32)"
)

func selector(signature string) []byte { return crypto.Keccak256([]byte(signature))[:4:4] }

// Call is a call of a getter.
type Call struct {
	Getter string      // AllowedDevice, AllowedOSImage or AllowedAggregatedMR; empty for any other getter
	Name   string      // the getter's Solidity signature
	ID     common.Hash // the argument of an allowlist's getter
	Data   string      // selector and argument
	Old    OldGetter   // set for a getter of an older generation
}

// ListCalls returns the calls for a Query's allowlists, without duplicates.
func (q *Query) ListCalls() (out []Call) {
	if q.CodeOnly {
		return nil
	}
	add := func(getter string, ids []common.Hash) {
		s, seen := selector(getter), make(map[common.Hash]bool, len(ids))
		for _, id := range ids {
			if !seen[id] {
				seen[id] = true
				out = append(out, Call{Getter: getter, Name: getter, ID: id, Data: string(append(s, id[:]...))})
			}
		}
	}
	add(AllowedDevice, q.Devices)
	add(AllowedOSImage, q.OSImages)
	add(AllowedAggregatedMR, q.AggregatedMRs)
	return out
}

// Equal reports whether another Query asks for the same things in the same order.
func (q *Query) Equal(o *Query) bool {
	return q.Contract == o.Contract && q.Control == o.Control && q.CodeOnly == o.CodeOnly && slices.Equal(q.Devices, o.Devices) &&
		slices.Equal(q.OSImages, o.OSImages) && slices.Equal(q.AggregatedMRs, o.AggregatedMRs) && slices.Equal(q.Apps, o.Apps) &&
		slices.Equal(q.Callers, o.Callers) && slices.Equal(q.Slots, o.Slots) && slices.Equal(q.Implementations, o.Implementations)
}

// Clone returns a deep copy.
func (q *Query) Clone() Query {
	c := *q
	c.Devices, c.OSImages, c.AggregatedMRs = slices.Clone(q.Devices), slices.Clone(q.OSImages), slices.Clone(q.AggregatedMRs)
	c.Apps, c.Callers, c.Slots = slices.Clone(q.Apps), slices.Clone(q.Callers), slices.Clone(q.Slots)
	c.Implementations = slices.Clone(q.Implementations)
	return c
}

// NeededSlots returns the slots to prove regardless of what the contract's code reads.
func (q *Query) NeededSlots() []common.Hash {
	if q.CodeOnly {
		return nil
	}
	return slices.Concat(WellKnown, q.Slots)
}

// fixedGetters are the getters of everything that the contract stores outside its mappings. Older generations lack some of
// them; calling a missing getter is harmless.
var fixedGetters = []string{"owner()", "pendingOwner()", "gatewayAppId()", "kmsInfo()", "appImplementation()"}

// FixedCalls are the calls of fixedGetters. ControlCalls are the calls for Control, and the first ones of CoverageCalls; the last
// one is the older name of appImplementation.
var (
	FixedCalls   = fixedCalls()
	ControlCalls = append(FixedCalls[:len(FixedCalls):len(FixedCalls)], Call{Data: string(selector("appAuthImplementation()"))})
)

func fixedCalls() (out []Call) {
	for _, g := range fixedGetters {
		out = append(out, Call{Name: g, Data: string(selector(g))})
	}
	return out
}

// ForeignCalls are the calls that explain the storage of a beacon or a registry, besides the slots that the contract reads there.
var ForeignCalls = append(slices.Clip(FixedCalls[:2]), Call{Name: implementationGetter, Data: string(selector(implementationGetter))})

const implementationGetter = "implementation()"

// CoverageCalls returns the calls whose slots explain what the contract stores.
func (q *Query) CoverageCalls() (out []Call) {
	if q.CodeOnly {
		return nil
	}
	return slices.Concat(ControlCalls, Apps.call(common.Address{}), NextAppSequence.call(common.Address{}))
}

// AppCalls returns the coverage calls for some apps.
func AppCalls(apps []common.Address) (out []Call) {
	s := selector(registeredApps)
	for _, a := range apps {
		out = append(out, Call{Name: registeredApps, Data: string(append(s, common.LeftPadBytes(a[:], 32)...))})
	}
	return out
}

const registeredApps = "registeredApps(address)"

// OldGetter is a getter of the May and June 2025 generations; it takes an address. CoverageCalls has one call of each, which shows
// whether the contract has the getter.
type OldGetter string

// The OldGetters: what is stored about an app, and how many apps an account has registered.
const (
	Apps            OldGetter = "apps(address)"
	NextAppSequence OldGetter = "nextAppSequence(address)"
)

func (g OldGetter) call(args ...common.Address) (out []Call) {
	for _, a := range args {
		out = append(out, Call{Name: string(g), Data: string(append(selector(string(g)), common.LeftPadBytes(a[:], 32)...)), Old: g})
	}
	return out
}

// OldCalls returns further coverage calls for a contract that has the getter.
func (q *Query) OldCalls(g OldGetter) []Call {
	if g == Apps {
		return g.call(q.Apps...)
	}
	return g.call(q.Callers...)
}

// WellKnown are slots that are in use though no getter may read them: those of proxies (ERC-1967) and of OpenZeppelin's upgradeable
// contracts (ERC-7201).
var WellKnown = []common.Hash{
	erc1967Slot("eip1967.proxy.implementation"),
	erc1967Slot("eip1967.proxy.admin"),
	erc1967Slot("eip1967.proxy.beacon"),
	erc7201Slot("openzeppelin.storage.Initializable"),
	erc7201Slot("openzeppelin.storage.Ownable"),
	erc7201Slot("openzeppelin.storage.Ownable2Step"),
}

func erc1967Slot(name string) common.Hash { return minusOne(crypto.Keccak256Hash([]byte(name))) }

func minusOne(h common.Hash) common.Hash {
	return common.BigToHash(new(big.Int).Sub(h.Big(), common.Big1))
}

func erc7201Slot(id string) common.Hash {
	h := crypto.Keccak256Hash(erc1967Slot(id).Bytes())
	h[31] = 0
	return h
}

// ImplementationSlot and BeaconSlot are where a proxy keeps its implementation or its beacon (ERC-1967).
var ImplementationSlot, BeaconSlot = WellKnown[0], WellKnown[2]

// Answer is a contract's answer about one id. Err is set if there is no valid answer: the getter reverted, it writes when it is
// called, or it returned something other than an ABI bool.
type Answer struct {
	Err     error
	Allowed bool
}

func (a Answer) String() string {
	switch {
	case a.Err != nil:
		return "no answer (" + a.Err.Error() + ")"
	case a.Allowed:
		return "true"
	default:
		return "false"
	}
}

// DecodeBool decodes an ABI bool strictly: 32 bytes, 31 of them zero, the last 0 or 1. No bytes, which an account without code
// returns, are an error.
func DecodeBool(b []byte) Answer {
	if len(b) != 32 {
		return Answer{Err: fmt.Errorf("the answer has %d bytes, want 32", len(b))}
	}
	switch word := common.BytesToHash(b); word {
	case common.Hash{}:
		return Answer{}
	case common.Hash{31: 1}:
		return Answer{Allowed: true}
	default:
		return Answer{Err: fmt.Errorf("the answer %s is neither 0 nor 1", word)}
	}
}

// Field is one value that a contract reports about itself.
type Field[T any] struct {
	Value   T
	Present bool  // false without Err: the contract has no such getter
	Err     error // why it could not be read
}

// Control is who controls a contract, which code runs there, and what the contract reports about its KMS.
type Control struct {
	Owner                Field[common.Address]
	PendingOwner         Field[common.Address] // the zero address if no transfer is pending
	Implementation       Field[common.Address] // ERC-1967; not Present if the slot is empty
	GatewayAppID         Field[string]
	K256Pubkey, CAPubkey Field[[]byte]
	AppImplementation    Field[common.Address]

	Code    footprint.Code // of the contract itself at least
	CodeErr error          // why Code is incomplete: the implementation's code could not be read
}

// AddCode adds an account whose code runs.
func (c *Control) AddCode(addr common.Address, role footprint.Role, hash common.Hash) {
	c.Code.Accounts = append(c.Code.Accounts, footprint.Account{Address: addr.Hex(), Role: role, CodeHash: hash.Hex()})
}

// SetGetter sets the field of call i of ControlCalls. If there is neither data nor err, the call reverted or returned nothing:
// the contract has no such getter.
func (c *Control) SetGetter(i int, data []byte, err error) {
	switch i {
	case 0:
		c.Owner = field(i, data, err, DecodeAddress)
	case 1:
		c.PendingOwner = field(i, data, err, DecodeAddress)
	case 2:
		c.GatewayAppID = field(i, data, err, unpack[string](textType, 0))
	case 3:
		c.K256Pubkey, c.CAPubkey = field(i, data, err, unpack[[]byte](infoType, 0)), field(i, data, err, unpack[[]byte](infoType, 1))
	case 4:
		c.AppImplementation = field(i, data, err, DecodeAddress)
	case 5:
		if f := &c.AppImplementation; !f.Present && f.Err == nil { // appAuthImplementation, the older name
			*f = field(4, data, err, DecodeAddress)
		}
	}
}

func field[T any](i int, data []byte, err error, decode func([]byte) (T, error)) (f Field[T]) {
	if err == nil && len(data) == 0 {
		return f
	}
	if err == nil {
		f.Value, err = decode(data)
	}
	if f.Present = err == nil; !f.Present {
		f.Err = fmt.Errorf("reading %s: %w", fixedGetters[i], err)
	}
	return f
}

// unpack returns a decoder of value i.
func unpack[T any](types abi.Arguments, i int) func([]byte) (T, error) {
	return func(b []byte) (out T, err error) {
		v, err := types.Unpack(b)
		if err != nil {
			return out, err
		}
		return v[i].(T), nil
	}
}

// SetImplementation sets Implementation from the word in ImplementationSlot, or from the error of reading it.
func (c *Control) SetImplementation(word common.Hash, err error) {
	f := &c.Implementation
	if err == nil && word != (common.Hash{}) {
		f.Value, err = DecodeAddress(word[:])
		f.Present = err == nil
	}
	if err != nil {
		f.Err = fmt.Errorf("reading the implementation's slot: %w", err)
		c.CodeErr = f.Err
	}
}

// Equal reports whether two Controls have the same values. Errors are equal whatever their text.
func (c *Control) Equal(o *Control) bool {
	return sameField(c.Owner, o.Owner) && sameField(c.PendingOwner, o.PendingOwner) && sameField(c.Implementation, o.Implementation) &&
		sameField(c.GatewayAppID, o.GatewayAppID) && sameField(asText(c.K256Pubkey), asText(o.K256Pubkey)) && sameField(asText(c.CAPubkey), asText(o.CAPubkey)) &&
		sameField(c.AppImplementation, o.AppImplementation) &&
		slices.Equal(c.Code.Accounts, o.Code.Accounts) && (c.CodeErr == nil) == (o.CodeErr == nil)
}

func sameField[T comparable](a, b Field[T]) bool {
	return a.Value == b.Value && a.Present == b.Present && (a.Err == nil) == (b.Err == nil)
}

func asText(f Field[[]byte]) Field[string] { return Field[string]{string(f.Value), f.Present, f.Err} }

func (c *Control) String() string {
	show := func(f Field[common.Address]) string {
		switch {
		case f.Err != nil:
			return "unknown"
		case !f.Present:
			return "none"
		}
		return f.Value.Hex()
	}
	return fmt.Sprintf("owner %s, pending owner %s, implementation %s, code %v", show(c.Owner), show(c.PendingOwner), show(c.Implementation), c.Code.Accounts)
}

// Types that getters return: gatewayAppId's string, and the four parts of kmsInfo.
var textType, infoType = arguments("string"), arguments("bytes", "bytes", "bytes", "bytes")

func arguments(types ...string) (out abi.Arguments) {
	for _, name := range types {
		t, err := abi.NewType(name, "", nil)
		if err != nil {
			panic(err)
		}
		out = append(out, abi.Argument{Type: t})
	}
	return out
}

var errNoAddress = errors.New("the answer is not an address")

// DecodeAddress decodes an ABI address strictly: 32 bytes, the first 12 of them zero.
func DecodeAddress(b []byte) (common.Address, error) {
	if len(b) != 32 || !bytes.Equal(b[:12], make([]byte, 12)) {
		return common.Address{}, errNoAddress
	}
	return common.BytesToAddress(b), nil
}
