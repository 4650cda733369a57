package simtest_test

import (
	"context"
	"fmt"
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// contract is what a contract stores at a block, slot by slot.
type contract struct {
	code           bool
	control        control
	owner          common.Address
	slot           common.Address // ERC-1967's, of the implementation
	beacon, helper common.Address // of some forms
	name           string         // of the implementation that answers for the devices
	allowed        [2][ids]bool   // by the lists that its code uses
	elsewhere      bool           // the devices are stored in another contract
	watched        watched
	unexplained    bool // it stores entries of lists that its code does not read
	uncounted      bool // its code counts registrations, and other code registered some apps
}

// Storage slots of testchain's contracts.
var (
	implSlot, ownerSlot = namespace("eip1967.proxy.implementation", false), namespace("openzeppelin.storage.Ownable", true)
	otherSlots          = []common.Hash{namespace("openzeppelin.storage.Initializable", true), namespace("openzeppelin.storage.Ownable2Step", true)}
	plainLists          = [2]common.Hash{number32(7), number32(8)}
	movedLists          = [2]common.Hash{crypto.Keccak256Hash([]byte("testchain.moved.lists")), plus(crypto.Keccak256Hash([]byte("testchain.moved.lists")), 1)}
)

// namespace returns an ERC-1967 slot or the first slot of an ERC-7201 namespace.
func namespace(name string, erc7201 bool) common.Hash {
	h := plus(crypto.Keccak256Hash([]byte(name)), -1)
	if erc7201 {
		h = crypto.Keccak256Hash(h[:])
		h[31] = 0
	}
	return h
}

func number32(n byte) common.Hash { return common.Hash{31: n} }

func plus(h common.Hash, n int64) common.Hash {
	return common.BigToHash(new(big.Int).Add(h.Big(), big.NewInt(n)))
}

func mapped(key, slot common.Hash) common.Hash { return crypto.Keccak256Hash(key[:], slot[:]) }

// contract reads a contract's storage at a block from the node's own state. An unexpected slot is an error.
func (w *world) contract(ctx context.Context, block common.Hash, at common.Address) (is contract, err error) {
	a, err := w.dump(ctx, block, at)
	if err != nil || a.CodeHash == (common.Hash{}) {
		return is, err
	}
	word := func(slot common.Hash) common.Address { return common.HexToAddress(a.Storage[slot]) }
	is = contract{code: true, owner: word(ownerSlot), slot: word(implSlot), beacon: word(beaconSlot), helper: word(helperSlot)}
	facets := []common.Address{is.slot} // for the devices, the images and the rest
	switch no := (common.Address{}); {
	case is.beacon != no:
		b, err := w.dump(ctx, block, is.beacon)
		if err != nil {
			return is, err
		}
		facets[0] = common.HexToAddress(b.Storage[beaconPoints])
	case word(dispatchSlot) != no:
		facets = []common.Address{word(dispatchSlot), word(plus(dispatchSlot, 1)), word(plus(dispatchSlot, 2))}
	case is.slot == no:
		facets = nil
	}
	known := map[common.Hash]bool{implSlot: true, ownerSlot: true, beaconSlot: true, helperSlot: true}
	for i := range int64(4) {
		known[plus(dispatchSlot, i)] = true
	}
	var uses layout
	if len(facets) > 0 {
		is.name, uses = w.nameOf(facets[0]), layoutOf(w.nameOf(facets[len(facets)-1]))
		uses.lists[device] = layoutOf(is.name).lists[device]
	}
	is.watched = watchedOf(a.Storage, uses)
	if err := w.control(ctx, block, at, &is, facets); err != nil {
		return is, err
	}
	for _, s := range otherSlots {
		known[s] = true
	}
	for n := range byte(11) {
		known[number32(n)] = true
		for i := range int64(4) { // long texts
			field := number32(n)
			known[plus(crypto.Keccak256Hash(field[:]), i)] = true
		}
	}
	for _, app := range w.apps(a.Storage) {
		slot := mapped(common.BytesToHash(app[:]), appsSlot)
		known[slot] = true
		is.unexplained = is.unexplained || !uses.apps && a.Storage[slot] != ""
		is.uncounted = is.uncounted || uses.counts && a.Storage[slot] != "" && common.HexToHash(a.Storage[slot]).Big().BitLen() <= 8
	}
	for _, caller := range w.callers() {
		known[mapped(common.BytesToHash(caller[:]), sequencesSlot)] = true
	}
	for _, list := range allLists {
		for _, key := range keys {
			known[mapped(key.id, list)] = true
			listed := a.Storage[mapped(key.id, list)] != ""
			if used := key.list < 2 && uses.lists[key.list] == list || key.list == 2 && uses.measurements == list; !used {
				is.unexplained = is.unexplained || listed
			} else if key.list < 2 {
				is.allowed[key.list][key.n] = listed
			}
		}
	}
	for slot := range a.Storage {
		if !known[slot] {
			return is, fmt.Errorf("%s stores something at the unexpected slot %s", at, slot)
		}
	}
	return is, w.registered(ctx, block, a, &is)
}

// registered reads the devices of a contract whose list is in another one.
func (w *world) registered(ctx context.Context, block common.Hash, a account, is *contract) error {
	word := common.HexToHash(a.Storage[helperSlot])
	switch {
	case is.name != testchain.Helped:
		is.unexplained = is.unexplained || word != common.Hash{} // nothing reads it
		return nil
	case word[11] == 0: // a library
		return nil
	}
	r, err := w.dump(ctx, block, is.helper)
	is.elsewhere = true
	for id := range ids {
		is.unexplained = is.unexplained || is.allowed[device][id] // in its own list, which nothing reads
		is.allowed[device][id] = r.Storage[mapped(idOf(device, id), registryList)] != ""
	}
	return err
}

// Slots of apps, callers and lists in the generations of a contract.
var (
	appsSlot, sequencesSlot = number32(5), number32(9)
	allLists                = []common.Hash{number32(5), number32(6), number32(7), number32(8), movedLists[device], movedLists[image]}
)

// listKey returns the key of an entry of a list; list 2 is that of the measurements.
type listKey struct {
	list, n int
	id      common.Hash
}

var keys = func() (out []listKey) {
	for n := range ids {
		out = append(out, listKey{device, n, idOf(device, n)}, listKey{image, n, idOf(image, n)}, listKey{2, n, measurement(byte(n))})
	}
	return out
}()

// callers are the accounts that register apps.
func (w *world) callers() []common.Address {
	return []common.Address{testchain.Address("owner"), testchain.Address("stranger"), w.impl[registrar]}
}

// apps are the apps that may be registered: those of the plan, and those of generations that count.
func (w *world) apps(storage map[common.Hash]string) (out []common.Address) {
	for n := range byte(10) {
		out = append(out, common.Address{1, n})
	}
	for _, caller := range w.callers() {
		for n := range common.HexToHash(storage[mapped(common.BytesToHash(caller[:]), sequencesSlot)]).Big().Int64() {
			word := common.BytesToHash(caller[:])
			seed := crypto.Keccak256(word[:], common.BigToHash(big.NewInt(n)).Bytes())
			out = append(out, common.BytesToAddress(seed))
		}
	}
	return out
}

// makes is the verdict that a finding causes, according to the documentation. Missing kinds cause none.
var makes = map[string]string{
	"claim_allowed_chain_denied": drift, "claim_denied_chain_allowed": drift, "unlisted_chain_allowed": drift, "claim_unknown": unknown,
	"malformed_id": unknown, "duplicate_conflict": drift, "contract_not_listed": drift, "contract_unexpected": drift, "no_code": drift,
	"chain_mismatch": unknown, "provider_disagreement": unknown, "proof_invalid": unknown, "getter_disagrees_with_proof": unknown,
	"storage_unaccounted": drift, "owner_changed": drift, "implementation_changed": drift, "code_changed": drift,
	"measurements_changed": drift, "gateway_changed": drift, "app_implementation_changed": drift, "chain_went_back": unknown, "block_contradicted": unknown,
	"policy_denied_chain_allowed": drift, "policy_allowed_chain_denied": drift,
}

const consistent, drift, unknown = "consistent", "drift", "unknown"

// finding is a kind with its entry. All malformed ids are one entry.
type finding struct{ Kind, List, ID string }

func findingOf(f audit.Finding) finding {
	if f.Kind == audit.MalformedID {
		return finding{string(f.Kind), string(f.List), "malformed"}
	}
	return finding{string(f.Kind), string(f.List), f.ID}
}

// entry is the list and the number of the id that a finding is about.
func (f finding) entry() (list, id int, ok bool) {
	list = slices.Index(lists[:], audit.List(f.List))
	for id = range ids {
		if list >= 0 && idOf(list, id).Hex() == f.ID {
			return list, id, true
		}
	}
	return 0, 0, false
}

// truth is the expected result for one contract at one block with one answer of the API.
type truth struct {
	is       contract
	wrong    map[finding]bool
	accepted map[finding]bool // findings that the operator accepts
	hidden   map[finding]bool // findings about an id that the auditor need not know
	stored   bool             // the contract itself stores a hidden id
	claims   [2][ids][]row
	read     bool            // the API claims something about the contract, on the right chain
	compared map[string]bool // ids whose claim can be compared
	blank    bool            // a claim cannot be compared
	gone     bool            // the gateway or the apps' code is gone, without a proof
	loose    bool            // the baseline may be a believed lie
}

// unshown returns an id that the contract allows without an entry, although its storage is fully accounted for, or "".
func (t *truth) unshown(in *audit.Target) string {
	for list := range lists {
		for n := range ids {
			id := idOf(list, n).Hex()
			if in.Completeness == audit.Complete && t.is.allowed[list][n] && !slices.ContainsFunc(in.Entries, func(e audit.Entry) bool { return e.ID == id }) {
				return string(lists[list]) + " " + id
			}
		}
	}
	return ""
}

// holds reports whether anything was compared: a claim or, without claims, the policy. The policy's lists may be empty if the
// contract is proven to store nothing else.
func (w *world) holds(t *audit.Target, compared map[string]bool) bool {
	listed := t.Contract == w.at[0].Hex() && w.Named != "" && (w.Devices != nil || w.Images != nil)
	waits := t.Counts.Pending > 0
	return len(compared) > 0 && (listed || !w.Unclaimed) || w.Unclaimed && listed && t.Completeness == audit.Complete && !waits
}

// unlisted reports whether another contract's list has an id without an entry. The auditor cannot know of it.
func (t *truth) unlisted(in *audit.Target) bool {
	for n := range ids {
		id := idOf(device, n).Hex()
		if t.is.elsewhere && t.is.allowed[device][n] && !slices.ContainsFunc(in.Entries, func(e audit.Entry) bool { return e.List == audit.Device && e.ID == id }) {
			return true
		}
	}
	return false
}

// silent reports whether the API lists an id without a claim about it.
func (t *truth) silent(list, id int) bool {
	rows := t.claims[list][id]
	return slices.ContainsFunc(rows, func(r row) bool { return r.allowed == nil || rows[0].allowed == nil || *r.allowed != *rows[0].allowed })
}

// truth computes the truth: about the chain alone without a claim, and about the claim alone without a block.
func (w *world) truth(ctx context.Context, at common.Address, block common.Hash, c *claim) (t truth, err error) {
	t.wrong, t.accepted, t.hidden, t.compared = map[finding]bool{}, map[finding]bool{}, map[finding]bool{}, map[string]bool{}
	say := func(kind string) { t.wrong[finding{Kind: kind}] = true }
	n := slices.Index(w.at, at)
	configured := slices.Contains(w.configured(), at)
	audited := configured || w.mem.known[at]
	t.read = w.Unclaimed // there is no claim to read
	if c != nil {
		rows, listed, foreign := c.about(at)
		t.read = c.ChainID == chainID && !foreign
		if !t.read {
			say("chain_mismatch")
		}
		switch {
		case c.ChainID != chainID:
		case listed && !configured && w.Named != "":
			say("contract_unexpected")
		case !listed && audited:
			say("contract_not_listed")
		}
		if audited = audited || listed && t.read && w.Named == ""; !audited {
			return t, nil
		}
		for _, r := range rows {
			switch {
			case !t.read:
			case r.id == noHash:
				t.wrong[finding{"no_hash", string(lists[r.list]), ""}] = true
				t.blank = t.blank || r.allowed != nil
			case r.id == malformed:
				t.wrong[finding{"malformed_id", string(lists[r.list]), "malformed"}] = true
			default:
				t.claims[r.list][r.id] = append(t.claims[r.list][r.id], r)
			}
		}
	}
	if block != (common.Hash{}) && audited {
		if t.is, err = w.contract(ctx, block, at); err != nil {
			return t, err
		}
		if !t.is.code {
			say("no_code")
		}
	}
	for list := range 2 {
		for id := range ids {
			w.judge(&t, n, list, id)
		}
	}
	if t.is.code {
		if w.Verify != "off" && t.is.unexplained && t.read { // else the API may explain it
			say("storage_unaccounted")
		}
		w.judgeControl(&t, n, at)
		w.judgeWatched(&t, at)
	}
	w.accept(&t, n)
	return t, nil
}

// judge compares claim, policy and storage of one id.
func (w *world) judge(t *truth, n, list, id int) {
	say := func(kind string) { t.wrong[finding{kind, string(lists[list]), idOf(list, id).Hex()}] = true }
	var says []string
	for _, r := range t.claims[list][id] {
		if r.allowed == nil {
			says = append(says, "null")
		} else {
			says = append(says, fmt.Sprint(*r.allowed))
		}
	}
	says = slices.Compact(slices.Sorted(slices.Values(says)))
	if len(says) > 1 {
		say("duplicate_conflict")
	}
	if !t.is.code {
		return
	}
	allowed := t.is.allowed[list][id]
	switch {
	case len(says) > 1:
	case len(says) == 0:
		if t.read && allowed && !w.Unclaimed {
			say("unlisted_chain_allowed")
		}
	case says[0] == "null":
		say("claim_unknown")
	default:
		if t.compared[idOf(list, id).Hex()] = true; says[0] == "true" && !allowed {
			say("claim_allowed_chain_denied")
		} else if says[0] == "false" && allowed {
			say("claim_denied_chain_allowed")
		}
	}
	wants := [2][]int{w.Devices, w.Images}[list]
	if n == 0 && w.Named != "" && wants != nil {
		if w.Unclaimed && (allowed || slices.Contains(wants, id)) {
			t.compared[idOf(list, id).Hex()] = true
		}
		if allowed && !slices.Contains(wants, id) {
			say("policy_denied_chain_allowed")
		} else if !allowed && slices.Contains(wants, id) {
			say("policy_allowed_chain_denied")
		}
	}
	named := len(says) > 0 || n == 0 && slices.Contains(wants, id) || n >= 0 && w.mem.named[n][list][id] ||
		slices.ContainsFunc(w.Accepts, func(a accept) bool { return a.N == n && a.List == list && a.ID == id })
	for _, kind := range []string{"unlisted_chain_allowed", "policy_denied_chain_allowed"} {
		if f := (finding{kind, string(lists[list]), idOf(list, id).Hex()}); (t.wrong[f] || w.Unclaimed && allowed) && !named {
			t.hidden[f] = true // nothing may be wrong with it, or it may be unexplained storage
			t.stored = t.stored || list != device || !t.is.elsewhere
		}
	}
}

// accept removes what the operator accepts.
func (w *world) accept(t *truth, n int) {
	for _, a := range w.Accepts {
		f := finding{Kind: a.Kind}
		if a.ID >= 0 {
			f.List, f.ID = string(lists[a.List]), idOf(a.List, a.ID).Hex()
		}
		if a.N == n && !a.Expired && (t.wrong[f] || a.Kind == "storage_unaccounted") {
			t.accepted[f] = true
			delete(t.wrong, f)
		}
	}
}
