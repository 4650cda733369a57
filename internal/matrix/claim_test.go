package matrix_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/fakeapi"
)

// nobody is an address without code.
var nobody = common.Address{0xee, 0xee}

// claim makes what the API says: the truth at a block, but for the edits.
func (s *scene) claim(is snapshot, edits []edit) fakeapi.Chain {
	has := func(what string, contract, list, id int) bool {
		for _, e := range edits {
			if e.What == what && e.Contract == contract && e.List == list && e.ID == id {
				return true
			}
		}
		return false
	}
	on := func(what string, contract int) bool {
		for _, e := range edits {
			if e.What == what && e.Contract == contract {
				return true
			}
		}
		return false
	}
	c := fakeapi.Chain{ChainName: "test", ChainID: chainID}
	for n := range s.at {
		row := fakeapi.Contract{Address: s.at[n].Hex(), ChainID: chainID, ChainName: "test"}
		if on(unlist, n) {
			continue
		}
		if on(elsewhere, n) {
			row.ChainID++
		}
		for list := range 2 {
			for id := range listed {
				says, spelled := is[n].allows(list, id), idOf(list, id).Hex()
				if id%2 == 1 {
					spelled = strings.ToUpper(spelled[2:])
				}
				if has(drop, n, list, id) {
					continue
				}
				if has(flip, n, list, id) {
					says = !says
				}
				if has(malformed, n, list, id) {
					spelled = spelled[:len(spelled)-1]
				}
				rows := []*bool{&says}
				if has(null, n, list, id) {
					rows[0] = nil
				}
				if has(twice, n, list, id) {
					rows = append(rows, rows[0])
				}
				if not := !says; has(contradict, n, list, id) {
					rows = append(rows, &not)
				}
				for _, allowed := range rows {
					if list == device {
						row.Devices = append(row.Devices, fakeapi.Device{ID: spelled, Allowed: allowed})
						continue
					}
					img := fakeapi.OSImage{Name: fmt.Sprintf("dstack-%d", id), Version: "1", Hash: &spelled, Allowed: allowed}
					if has(noHash, n, list, id) {
						img.Hash = nil
					}
					row.OSImages = append(row.OSImages, img)
				}
			}
		}
		if on(split, n) {
			second := row
			second.Devices, row.OSImages = nil, nil
			c.Contracts = append(c.Contracts, second)
		}
		c.Contracts = append(c.Contracts, row)
	}
	for n := range s.at {
		if on(stranger, n) {
			no := false
			c.Contracts = append(c.Contracts, fakeapi.Contract{Address: nobody.Hex(), ChainID: chainID, ChainName: "test",
				Devices: []fakeapi.Device{{ID: idOf(device, 0).Hex(), Allowed: &no}}})
			break
		}
	}
	if on(abroad, 0) {
		c.ChainID++
	}
	return c
}

// hushed lists the contracts that the API's list of KMS leaves out.
func (s *scene) hushed(edits []edit) map[common.Address]bool {
	out := map[common.Address]bool{}
	for _, e := range edits {
		if e.What == hush {
			out[s.at[e.Contract]] = true
		}
	}
	return out
}

// said is a claim as it went over the wire, read without the auditor's code.
type said struct {
	chain uint64
	rows  []saidRow
}

func (c said) lists(at common.Address) bool {
	return slices.ContainsFunc(c.rows, func(r saidRow) bool { return r.contract == at })
}

type saidRow struct {
	contract common.Address
	chain    uint64
	entries  []saidEntry
}

// saidEntry is one row of a list. allowed is "true", "false" or "null".
type saidEntry struct {
	list    int
	id      string
	allowed string
}

// read reads a body. What the auditor must refuse may come out as anything.
func read(body []byte) said {
	var out said
	top := members(body)
	out.chain = integer(top["chain_id"])
	for _, raw := range elements(top["contracts"]) {
		m := members(raw)
		row := saidRow{contract: common.HexToAddress(text(m["contract_address"])), chain: integer(m["chain_id"])}
		for list, name := range []string{"devices", "os_images"} {
			for _, raw := range elements(m[name]) {
				e := members(raw)
				entry := saidEntry{list, text(e[[]string{"device_id", "os_image_hash"}[list]]), "null"}
				if a := string(e["on_chain_allowed"]); a != "" {
					entry.allowed = a
				}
				row.entries = append(row.entries, entry)
			}
		}
		out.rows = append(out.rows, row)
	}
	return out
}

func members(raw []byte) (m map[string]json.RawMessage) { _ = json.Unmarshal(raw, &m); return m }
func elements(raw []byte) (l []json.RawMessage)         { _ = json.Unmarshal(raw, &l); return l }
func text(raw []byte) (s string)                        { _ = json.Unmarshal(raw, &s); return s }
func integer(raw []byte) (n uint64)                     { _ = json.Unmarshal(raw, &n); return n }

// id is the number that a text stands for; it is -1 for a text that is no id, and ids for an unknown one.
func (e saidEntry) number() int {
	digits := strings.ToLower(strings.TrimPrefix(strings.TrimPrefix(e.id, "0x"), "0X"))
	if len(digits) != 64 {
		return -1
	}
	for id := range ids {
		if idOf(e.list, id).Hex()[2:] == digits {
			return id
		}
	}
	return ids
}
