package footprint_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/footprint"
)

const contract, impl, lib = "0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C", "0x0000000000000000000000000000000000000001", "0x0000000000000000000000000000000000000002"

func hash(b byte) common.Hash { return common.Hash{b} }

// code returns accounts with hashes of the given bytes. all means that they are complete.
func code(all bool, hashes ...byte) *footprint.Code {
	places := []footprint.Account{{contract, footprint.Proxy, ""}, {impl, footprint.Implementation, ""}, {lib, footprint.Library, ""}}
	c := &footprint.Code{Complete: all}
	for i, h := range hashes {
		if h != 0 {
			places[i].CodeHash = hash(h).Hex()
			c.Accounts = append(c.Accounts, places[i])
		}
	}
	return c
}

func TestWhatAChangeIs(t *testing.T) {
	for _, row := range []struct {
		sentence string
		was, is  *footprint.Code
		but      footprint.Role
		changed  string
		unseen   string
	}{
		{"nothing changed", code(true, 1, 2, 3), code(true, 1, 2, 3), "", "", ""},
		{"the proxy did", code(true, 1, 2), code(true, 9, 2), "", "(proxy) has hash 0x09", ""},
		{"the library did", code(true, 1, 2, 3), code(true, 1, 2, 9), "", "(library) has hash 0x09", ""},
		{"the library did, by what both know", code(false, 1, 2, 3), code(false, 1, 2, 9), "", "(library) has hash 0x09", ""},
		{"one more runs", code(true, 1, 2), code(true, 1, 2, 3), "", "but did not run before", ""},
		{"one more is known, and not all was", code(false, 1, 2), code(true, 1, 2, 3), "", "", ""},
		{"one more is known, though not all is", code(true, 1, 2), code(false, 1, 2, 3), "", "", ""},
		{"one less runs", code(true, 1, 2, 3), code(true, 1, 2), "", "no longer runs", ""},
		{"one less runs than was thought", code(false, 1, 2, 3), code(true, 1, 2), "", "", ""},
		{"one less is known", code(true, 1, 2, 3), code(false, 1, 2), "", "", "(library) ran before"},
		{"one less is known than was thought", code(false, 1, 2, 3), code(false, 1, 2), "", "", "(library) ran before"},
		{"a change goes before what is not known", code(true, 1, 2, 3), code(false, 1, 9), "", "(implementation) has hash 0x09", ""},
		{"the implementation is left out", code(true, 1, 2), code(true, 1, 9), footprint.Implementation, "", ""},
		{"the implementation is left out where it is gone", code(true, 1, 2), code(true, 1), footprint.Implementation, "", ""},
		{"nothing is known", code(false), code(false), "", "", ""},
	} {
		got := row.is.Since(row.was, row.but)
		for what, pair := range map[string][2]string{"changed": {row.changed, got.Changed}, "unseen": {row.unseen, got.Unseen}} {
			if (pair[0] == "") != (pair[1] == "") || !strings.Contains(pair[1], pair[0]) {
				t.Errorf("%s: %s is %q, want %q", row.sentence, what, pair[1], pair[0])
			}
		}
	}
}

// TestABeaconNamesOtherCode: the implementation that a beacon named without a proof counts as having run.
func TestABeaconNamesOtherCode(t *testing.T) {
	beacon := func(all bool, role footprint.Role, impl string) *footprint.Code {
		return &footprint.Code{Complete: all, Accounts: []footprint.Account{
			{contract, footprint.Proxy, hash(1).Hex()}, {impl, footprint.Implementation, hash(2).Hex()}, {lib, role, hash(3).Hex()},
		}}
	}
	was, other := beacon(false, footprint.Beacon, impl), "0x0000000000000000000000000000000000000003"
	for _, row := range []struct {
		sentence string
		is       *footprint.Code
		changed  bool
	}{
		{"the same", beacon(true, footprint.Beacon, impl), false},
		{"another", beacon(true, footprint.Beacon, other), true},
		{"another, and what was taken for the beacon names nothing", beacon(true, footprint.Other, other), false},
	} {
		if got := row.is.Since(was, ""); (got.Changed != "") != row.changed || got.Unseen != "" || row.is.Completes(was) == row.changed {
			t.Errorf("%s: %+v", row.sentence, got)
		}
	}
}

func TestWhatAPolicyWants(t *testing.T) {
	own := &footprint.Code{Accounts: []footprint.Account{{contract, footprint.Implementation, hash(1).Hex()}}}
	whole := &footprint.Code{Accounts: own.Accounts, Complete: true}
	one, two := hash(1), hash(2)
	for _, row := range []struct {
		sentence string
		is       *footprint.Code
		hash     *common.Hash
		hashes   []common.Hash
		changed  string
		unseen   string
	}{
		{"nothing", code(true, 1, 2), nil, nil, "", ""},
		{"the implementation's hash", code(true, 1, 2), &two, nil, "", ""},
		{"not the proxy's", code(true, 1, 2), &one, nil, "the code that runs has hash 0x02", ""},
		{"the contract's own, that hands nothing on", whole, &one, nil, "", ""},
		{"another than its own, that hands nothing on", whole, &two, nil, "the code that runs has hash 0x01", ""},
		{"its own, which may hand on what it is asked", own, &one, nil, "", ""},
		{"another than its own, which may hand on what it is asked", own, &two, nil, "", "is not proven"},
		{"a hash, and no implementation has code", code(true, 1), &two, nil, "no implementation's code runs", ""},
		{"a hash, and no implementation is known", code(false, 1), &two, nil, "", "is not known"},
		{"all", code(true, 1, 2, 3), nil, []common.Hash{hash(3), one, two}, "", ""},
		{"all, and one of them is another", code(true, 1, 2, 9), nil, []common.Hash{hash(3), one, two}, "(library) has hash 0x09", ""},
		{"fewer", code(true, 1, 2, 3), nil, []common.Hash{one, two}, "(library) has hash 0x03", ""},
		{"more", code(true, 1, 2), nil, []common.Hash{hash(3), one, two}, "code_hashes contains 0x03", ""},
		{"more than is known", code(false, 1, 2), nil, []common.Hash{hash(3), one, two}, "", "code_hashes contains 0x03"},
		{"other than is known", code(false, 9, 2), nil, []common.Hash{hash(3), one, two}, "(proxy) has hash 0x09", ""},
	} {
		var changed, unseen string
		for _, d := range row.is.Judge(contract, row.hash, row.hashes) {
			changed, unseen = changed+d.Changed, unseen+d.Unseen
		}
		for what, pair := range map[string][2]string{"changed": {row.changed, changed}, "unseen": {row.unseen, unseen}} {
			if (pair[0] == "") != (pair[1] == "") || !strings.Contains(pair[1], pair[0]) {
				t.Errorf("%s: %s is %q, want %q", row.sentence, what, pair[1], pair[0])
			}
		}
	}
}

func TestTheFormOfOlderReleasesIsRead(t *testing.T) {
	for _, row := range []struct {
		old, implementation string
		want                *footprint.Code
	}{
		{`{"code_hash":"` + hash(1).Hex() + `","implementation_code_hash":"` + hash(2).Hex() + `"}`, impl, code(false, 1, 2)},
		{`{"code_hash":"` + hash(1).Hex() + `"}`, "", &footprint.Code{Accounts: []footprint.Account{{contract, footprint.Implementation, hash(1).Hex()}}}},
		{`{}`, "", &footprint.Code{Accounts: []footprint.Account{}}},
		{`{"code":[{"address":"` + lib + `","role":"library","code_hash":"0x"}],"footprint":true}`, impl,
			&footprint.Code{Accounts: []footprint.Account{{lib, footprint.Library, "0x"}}, Complete: true}},
	} {
		var c footprint.Code
		if err := json.Unmarshal([]byte(row.old), &c); err != nil {
			t.Fatal(err)
		}
		c.Adopt(contract, row.implementation)
		if diff := cmp.Diff(row.want, &c); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.old, diff)
		}
	}
}

func TestTheContractComesFirst(t *testing.T) {
	c := &footprint.Code{Accounts: []footprint.Account{
		{lib, footprint.Other, ""}, {"0x03", footprint.Beacon, ""}, {impl, footprint.Implementation, ""}, {"0x0", footprint.Implementation, ""}, {contract, footprint.Proxy, ""},
	}}
	c.Sort(contract)
	var got []string
	for _, a := range c.Accounts {
		got = append(got, a.Address)
	}
	if diff := cmp.Diff([]string{contract, "0x0", impl, "0x03", lib}, got); diff != "" {
		t.Error(diff)
	}
}
