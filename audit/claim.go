package audit

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/hexid"
	"github.com/kms-auditor/kms-auditor/internal/quote"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// target is one contract while it is being judged.
type target struct {
	address    common.Address
	listed     bool   // by the API
	unexpected bool   // listed, while other contracts are configured
	named      bool   // by the API's list of KMS alone
	foreign    uint64 // the chain id of a row of another chain; zero: none

	rows    []kmsapi.Contract // that entries are made of
	entries []entry
	faults  []fault  // what is wrong with the contract as a whole
	reasons []string // what could not be checked, apart from entries

	completeness Completeness
	storage      *Storage
	explained    []Explained
	control      *Control
	baseline     *Baseline
	accepted     []Acceptance
	unmet        []Acceptance // that could not be looked for
	crossed      []Kind       // that the list of KMS was looked through for
	judged       bool         // control was held against all that it is to be held against

	kept bool    // nothing changes it any more
	done *Target // then, what it came to, in place of its entries
}

// entry is one entry while it is being judged. ask is what the chain is asked; without a Getter there is no valid id.
type entry struct {
	Entry
	ask      ethrpc.Ask
	conflict bool   // the rows of the id differ
	policy   Kind   // what is wrong with it by the policy; Entry.Kind is by the claim
	accepted []Kind // of both
}

type fault struct {
	kind    Kind
	message string
	list    List
	id      string
}

// targetsOf lists the contracts of a chain with what the API claims of them.
func targetsOf(c ChainOptions, detail *kmsapi.OnChainDetail) []*target {
	all := rowsOf(c, detail)
	for _, t := range all {
		for _, row := range t.rows {
			t.claim(row)
		}
		t.entries, t.rows = merge(t.entries), nil
	}
	return all
}

// rowsOf lists the contracts of a chain: the configured ones first, then what else the API lists, all rows of one
// contract together.
func rowsOf(c ChainOptions, detail *kmsapi.OnChainDetail) []*target {
	var all []*target
	for _, a := range c.Contracts {
		all = append(all, &target{address: a, completeness: Unchecked})
	}
	if detail == nil {
		return all
	}
	for _, row := range detail.Contracts {
		i := slices.IndexFunc(all, func(t *target) bool { return t.address == row.Address })
		if i < 0 {
			i = len(all)
			all = append(all, &target{address: row.Address, unexpected: len(c.Contracts) > 0, completeness: Unchecked})
		}
		t := all[i]
		t.listed = true
		if row.ChainID != c.ChainID {
			t.foreign = row.ChainID
		}
		if !t.unexpected {
			t.rows = append(t.rows, row)
		}
	}
	return all
}

func (t *target) claim(row kmsapi.Contract) {
	t.entries = slices.Grow(t.entries, len(row.Devices)+len(row.OSImages))
	for _, d := range row.Devices {
		t.add(Device, d.ID, d.NodeName, "", d.Allowed)
	}
	for _, i := range row.OSImages {
		t.add(OSImage, i.Hash, i.Name, i.Version, i.Allowed)
	}
}

func (t *target) add(list List, raw, name, version string, allowed kmsapi.Allowed) {
	e := entry{Entry: Entry{List: list, Name: quote.Plain(name), Version: quote.Plain(version), Claim: claimOf(allowed), OnChain: ChainUnknown}}
	id, err := hexid.ParseID(raw)
	switch {
	case list == OSImage && raw == "":
		e.Kind = NoHash
	case err != nil:
		e.ID, e.Kind = quote.Cut(raw), MalformedID
	default:
		e.ID = hexid.Text(id, raw)
		e.ask = ethrpc.Ask{Contract: t.address, Getter: getters[list], ID: id}
	}
	t.entries = append(t.entries, e)
}

var getters = map[List]ethrpc.Getter{Device: ethrpc.AllowedDevice, OSImage: ethrpc.AllowedOSImage}

func claimOf(a kmsapi.Allowed) ClaimState {
	switch a {
	case kmsapi.AllowedTrue:
		return ClaimAllowed
	case kmsapi.AllowedFalse:
		return ClaimDenied
	default:
		return ClaimUnknown
	}
}

// merge sorts entries by list, name, version and id, and makes one of all rows of an id.
func merge(rows []entry) []entry {
	slices.SortStableFunc(rows, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.List, b.List), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version),
			cmp.Compare(a.ID, b.ID), cmp.Compare(a.Claim, b.Claim))
	})
	type key struct {
		image bool
		id    common.Hash
	}
	out := rows[:0]
	at := make(map[key]int, len(rows))
	for _, r := range rows {
		if r.ask.Getter == "" {
			out = append(out, r)
			continue
		}
		k := key{r.List == OSImage, r.ask.ID}
		i, again := at[k]
		if !again {
			at[k] = len(out)
			out = append(out, r)
			continue
		}
		e := &out[i]
		e.Name, e.Version = join(e.Name, r.Name), join(e.Version, r.Version)
		if e.conflict = e.conflict || e.Claim != r.Claim; e.conflict {
			e.Claim = ClaimUnknown
		}
	}
	return out
}

// join lists what the rows of one id call it.
func join(a, b string) string {
	if b == "" || slices.Contains(strings.Split(a, ", "), b) {
		return a
	}
	if a == "" {
		return b
	}
	return quote.Plain(a + ", " + b)
}

// audited tells whether the contract is read.
func (t *target) audited() bool { return t.listed && !t.unexpected && t.foreign == 0 }

// questionsOf lists what to read: the code of every contract that is audited, every claimed id, and every id that an
// event named; and what else the contract stores, so that all its storage can be accounted for.
func questionsOf(c ChainOptions, detail *kmsapi.OnChainDetail) ethrpc.Questions {
	q := ethrpc.Questions{Control: true, Slots: map[common.Address][]common.Hash{}}
	if detail == nil || detail.ChainID != c.ChainID {
		return q
	}
	rows := 0
	for _, row := range detail.Contracts {
		rows += 1 + len(row.Devices) + len(row.OSImages)
	}
	q.Asks = make([]ethrpc.Ask, 0, rows)
	seen := make(map[ethrpc.Ask]bool, rows)
	ask := func(a ethrpc.Ask) {
		if !seen[a] {
			seen[a] = true
			q.Asks = append(q.Asks, a)
		}
	}
	for _, t := range rowsOf(c, detail) {
		if !t.audited() {
			continue
		}
		ask(ethrpc.Ask{Contract: t.address})
		claimed := func(list List, raw string) {
			if id, err := hexid.ParseID(raw); err == nil {
				ask(ethrpc.Ask{Contract: t.address, Getter: getters[list], ID: id})
			}
		}
		for _, row := range t.rows {
			for _, d := range row.Devices {
				claimed(Device, d.ID)
			}
			for _, i := range row.OSImages {
				claimed(OSImage, i.Hash)
			}
		}
		for _, a := range c.Wanted[t.address].asks(t.address) {
			ask(a)
		}
		if c.Events == nil {
			continue
		}
		named := c.Events.Known(t.address)
		for _, a := range named.asks(t.address) {
			ask(a)
		}
		q.Explain = append(q.Explain, ethrpc.Whole(t.address, named.AggregatedMRs, named.Apps)...)
		for _, e := range c.Explained[t.address] {
			q.Slots[t.address] = append(q.Slots[t.address], e.Slot)
		}
	}
	return q
}

// asks are the questions about the ids of the two lists.
func (n Named) asks(contract common.Address) []ethrpc.Ask {
	var out []ethrpc.Ask
	for _, id := range n.Devices {
		out = append(out, ethrpc.Ask{Contract: contract, Getter: getters[Device], ID: id})
	}
	for _, id := range n.Images {
		out = append(out, ethrpc.Ask{Contract: contract, Getter: getters[OSImage], ID: id})
	}
	return out
}
