package simtest_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
)

// api is the API: the state that it follows, the edits by which it deviates, and its answers so far.
type api struct {
	servers [2]*fakeapi.Server // serve requests in turn; the second differs if the API alternates
	truth   []contract         // at the last block that it followed
	edits   []act
	fault   *fakeapi.Fault

	mu       sync.Mutex
	requests int
	said     map[string]claim // by digest of the body
}

func newAPI() *api {
	return &api{servers: [2]*fakeapi.Server{fakeapi.New(), fakeapi.New()}, said: map[string]claim{}}
}

func (a *api) close() {
	for _, s := range a.servers {
		s.Close()
	}
}

// failing are the acts after which the API gives no usable answer.
var failing = []string{"alternate", "500", "403", "null body", "wrong types", "500 once", "half an answer", "reset"}

func (a *api) failing() bool { return a.fault != nil || a.has("alternate") }

func (a *api) has(what string) bool {
	return slices.ContainsFunc(a.edits, func(e act) bool { return e.What == what })
}

// edit changes the API's claim.
func (w *world) edit(ctx context.Context, a act) error {
	faults := map[string]*fakeapi.Fault{
		"500": {Name: fakeapi.Status}, "403": {Name: fakeapi.Status, Status: http.StatusForbidden}, "null body": {Name: fakeapi.Null}, "wrong types": {Name: fakeapi.WrongTypes},
		"500 once": {Name: fakeapi.Status, Times: 1}, "half an answer": {Name: fakeapi.Truncated}, "reset": {Name: fakeapi.Reset, Times: 2},
	}
	switch f := faults[a.What]; {
	case a.What == "follow":
		newest, err := w.Client().HeaderByNumber(ctx, nil)
		if err != nil {
			return err
		}
		w.api.truth, w.api.edits, w.api.fault = nil, nil, nil
		for _, at := range w.at {
			is, err := w.contract(ctx, newest.Hash(), at)
			if err != nil {
				return err
			}
			w.api.truth = append(w.api.truth, is)
		}
	case f != nil:
		w.api.fault = f
	default:
		w.api.edits = append(w.api.edits, a)
	}
	for i, s := range w.api.servers {
		edits := w.api.edits
		if i == 1 && w.api.has("alternate") {
			edits = append(slices.Clone(edits), act{What: "flip"})
		}
		s.Set(w.claim(edits))
		if s.ClearFault(); w.api.fault != nil {
			s.Fail(*w.api.fault)
		}
	}
	return nil
}

// claim returns the API's claim: the state that it follows, with the edits.
func (w *world) claim(edits []act) fakeapi.Chain {
	c := fakeapi.Chain{ChainName: "test", ChainID: chainID}
	for n, at := range w.at {
		row := fakeapi.Contract{Address: at.Hex(), ChainID: chainID, ChainName: "test"}
		on := func(what string) bool {
			return slices.ContainsFunc(edits, func(e act) bool { return e.What == what && e.N == n })
		}
		if on("drop contract") || slices.ContainsFunc(edits, func(e act) bool { return e.What == "list nothing" }) {
			continue
		}
		if on("row elsewhere") {
			row.ChainID++
		}
		for list := range 2 {
			for id := range listed {
				w.addRows(&row, list, id, w.api.truth[n].allowed[list][id], edits, n)
			}
		}
		c.Contracts = append(c.Contracts, row)
		if on("split rows") {
			second := row
			second.Devices, c.Contracts[len(c.Contracts)-1].OSImages = nil, nil
			c.Contracts = append(c.Contracts, second)
		}
	}
	for _, e := range edits {
		switch no := false; e.What {
		case "stranger":
			c.Contracts = append(c.Contracts, fakeapi.Contract{Address: nobody.Hex(), ChainID: chainID, ChainName: "test",
				Devices: []fakeapi.Device{{ID: idOf(device, 0).Hex(), Allowed: &no}}})
		case "elsewhere":
			c.ChainID = chainID + 1
		}
	}
	return c
}

// nobody is an address without code.
var nobody = common.Address{0xee, 0xee}

func (w *world) addRows(row *fakeapi.Contract, list, id int, says bool, edits []act, n int) {
	has := func(what string) bool { return slices.Contains(edits, act{what, n, list, id}) }
	if has("drop") {
		return
	}
	if has("flip") {
		says = !says
	}
	spelled := idOf(list, id).Hex()
	if id%2 == 1 {
		spelled = strings.ToUpper(spelled[2:])
	}
	if has("malformed") {
		spelled = spelled[:len(spelled)-1]
	}
	rows := []*bool{&says}
	if has("null") {
		rows[0] = nil
	}
	if has("list twice") {
		rows = append(rows, rows[0])
	}
	if not := !says; has("contradict") {
		rows = append(rows, &not)
	}
	for _, allowed := range rows {
		if list == device {
			row.Devices = append(row.Devices, fakeapi.Device{ID: spelled, Allowed: allowed})
			continue
		}
		img := fakeapi.OSImage{Name: fmt.Sprintf("dstack-%d", id), Version: "1", Hash: &spelled, Allowed: allowed}
		if has("no hash") {
			img.Hash = nil
		}
		row.OSImages = append(row.OSImages, img)
	}
}

// ServeHTTP records the API's answers before they are sent, because the auditor may use one before the handler returns.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	turn := a.requests % 2
	a.requests++
	a.mu.Unlock()
	a.servers[turn].ServeHTTP(&recorder{ResponseWriter: w, api: a}, r)
}

// recorder records the body after each write.
type recorder struct {
	http.ResponseWriter
	api  *api
	body []byte
}

func (r *recorder) Write(b []byte) (int, error) {
	r.body = append(r.body, b...)
	sum := sha256.Sum256(r.body)
	r.api.mu.Lock()
	r.api.said[hex.EncodeToString(sum[:])] = readClaim(r.body)
	r.api.mu.Unlock()
	return r.ResponseWriter.Write(b)
}

// claim is an answer of the API, decoded without the auditor's code.
type claim struct {
	ChainID   uint64 `json:"chain_id"`
	Contracts []struct {
		Address string `json:"contract_address"`
		ChainID uint64 `json:"chain_id"`
		Devices []struct {
			ID      *string `json:"device_id"`
			Allowed *bool   `json:"on_chain_allowed"`
		}
		Images []struct {
			ID      *string `json:"os_image_hash"`
			Allowed *bool   `json:"on_chain_allowed"`
		} `json:"os_images"`
	}
}

// readClaim decodes a body. The result is arbitrary for a body that the auditor must refuse.
func readClaim(body []byte) (c claim) {
	_ = json.Unmarshal(body, &c)
	return c
}

// row is one row of a list. id is ids for an unknown id, or malformed, or noHash.
type row struct {
	list, id int
	allowed  *bool
}

const (
	malformed = -1
	noHash    = -2
)

// about returns the rows of a contract, whether it is listed, and whether a row of it is about another chain.
func (c claim) about(at common.Address) (rows []row, listed, foreign bool) {
	for _, r := range c.Contracts {
		if common.HexToAddress(r.Address) != at {
			continue
		}
		listed, foreign = true, foreign || r.ChainID != chainID
		for _, d := range r.Devices {
			rows = append(rows, row{device, number(device, d.ID), d.Allowed})
		}
		for _, i := range r.Images {
			rows = append(rows, row{image, number(image, i.ID), i.Allowed})
		}
	}
	return rows, listed, foreign
}

func number(list int, id *string) int {
	if id == nil || *id == "" {
		return noHash
	}
	digits := strings.ToLower(strings.TrimPrefix(*id, "0x"))
	if len(digits) != 64 {
		return malformed
	}
	for n := range ids {
		if idOf(list, n).Hex()[2:] == digits {
			return n
		}
	}
	return ids
}
