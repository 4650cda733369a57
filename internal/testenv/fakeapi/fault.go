package fakeapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
)

// Fault is one thing that the server does wrong instead of answering.
type Fault struct {
	Name     string `json:"name"`               // one of the names below
	Endpoint string `json:"endpoint,omitempty"` // one of Endpoints; empty: OnChain
	Chain    string `json:"chain,omitempty"`    // OnChain: empty for every chain
	Page     int    `json:"page,omitempty"`     // List: zero for every page
	After    int    `json:"after,omitempty"`    // so many requests are answered well before
	Times    int    `json:"times,omitempty"`    // for that many requests; zero: until Heal

	Status     int             `json:"status,omitempty"`      // Status: 500 if zero; EchoKey: 401 if zero, and 200 puts the key into a good answer
	Shape      string          `json:"shape,omitempty"`       // Status: of the error body; empty: ShapeDetail
	RetryAfter string          `json:"retry_after,omitempty"` // Status: header, seconds or HTTP date
	Location   string          `json:"location,omitempty"`    // Redirect
	Path       string          `json:"path,omitempty"`        // Missing, Replaced: such as contracts.0.devices.0.device_id
	Value      json.RawMessage `json:"value,omitempty"`       // Replaced: what stands there instead
}

// The names of faults.
const (
	Status       = "status"         // an error with the API's error body
	HTML         = "html"           // 200 with a web page
	Truncated    = "truncated"      // 200 with the first half of the JSON
	WrongTypes   = "wrong_types"    // 200 with a text for the list of contracts
	Missing      = "missing"        // 200 without the field at Path
	Replaced     = "replaced"       // 200 with Value at Path
	WrongChainID = "wrong_chain_id" // 200 with another chain id, in the body and in every row
	ForeignRow   = "foreign_row"    // 200 with a first contract that claims another chain
	Huge         = "huge"           // 200 with 100 MB of JSON
	GzipBomb     = "gzip_bomb"      // 200 with 100 MB of white space in 100 kB
	Redirect     = "redirect"       // 302 to Location
	Hang         = "hang"           // no answer until the client goes away or Close
	Stall        = "stall"          // half an answer, then as Hang
	Reset        = "reset"          // the connection is reset
	Null         = "null"           // 200 with the JSON null
	Empty        = "empty"          // 200 with nothing
	EchoKey      = "echo_key"       // the sent X-API-Key in every text of an answer
	Growing      = "growing"        // List: before each answer, one more KMS comes to stand at the head
	RepeatedPage = "repeated_page"  // List: the items of the first page on every page
	RepeatedItem = "repeated_item"  // List: the first item once more at the end, with another slug
)

// The endpoints.
const (
	OnChain    = "on_chain"
	List       = "list"
	Info       = "info"
	NextAppIDs = "next_app_ids"
	Any        = "any"
)

// Endpoints lists every endpoint that a fault can be for.
var Endpoints = []string{OnChain, List, Info, NextAppIDs, Any}

// The shapes of error bodies.
const (
	ShapeDetail = "detail" // {"detail": str}
	ShapeList   = "list"   // {"detail": [{loc, msg, type}]}
	ShapeCode   = "code"   // {error_code, message, …}
	ShapeNested = "nested" // {"detail": {error_code, message, …}}
	ShapeHTML   = "html"   // a proxy's page
	ShapeEmpty  = "empty"
)

// Faults lists every name.
var Faults = []string{
	Status, HTML, Truncated, WrongTypes, Missing, Replaced, WrongChainID, ForeignRow,
	Huge, GzipBomb, Redirect, Hang, Stall, Reset, Null, Empty, EchoKey,
	Growing, RepeatedPage, RepeatedItem,
}

// listFaults and onChainFaults are those that only one endpoint can commit.
var (
	listFaults    = []string{Growing, RepeatedPage, RepeatedItem}
	onChainFaults = []string{WrongTypes, WrongChainID, ForeignRow}
)

// Check tells whether the server knows the fault.
func (f Fault) Check() error {
	if !slices.Contains(Faults, f.Name) {
		return fmt.Errorf("no fault has the name %q", f.Name)
	}
	if f.Endpoint != "" && !slices.Contains(Endpoints, f.Endpoint) {
		return fmt.Errorf("no endpoint has the name %q", f.Endpoint)
	}
	only := ""
	switch {
	case slices.Contains(listFaults, f.Name):
		only = List
	case slices.Contains(onChainFaults, f.Name), f.Name == EchoKey && f.Status == http.StatusOK:
		only = OnChain
	}
	if only != "" && cmp.Or(f.Endpoint, OnChain) != only {
		return fmt.Errorf("%s is a fault of the endpoint %s", f.Name, only)
	}
	if f.Shape != "" && !slices.Contains([]string{ShapeDetail, ShapeList, ShapeCode, ShapeNested, ShapeHTML, ShapeEmpty}, f.Shape) {
		return fmt.Errorf("no error body has the shape %q", f.Shape)
	}
	return nil
}

// Fail makes the server commit the fault from the next request on. It panics where Check has an error.
func (s *Server) Fail(f Fault) {
	if err := f.Check(); err != nil {
		panic("fakeapi: " + err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = &f
}

// Heal ends the fault.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = nil
}

// asked is what of a request decides whether a fault is for it.
type asked struct {
	endpoint, chain string
	page            int
}

func (f *Fault) concerns(a asked) bool {
	endpoint := cmp.Or(f.Endpoint, OnChain)
	return (endpoint == Any || endpoint == a.endpoint) && (f.Chain == "" || f.Chain == a.chain) && (f.Page == 0 || f.Page == a.page)
}

// takeFault returns the fault to commit on a request, nil for none, and counts it.
func (s *Server) takeFault(a asked) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault == nil || !s.fault.concerns(a) {
		return nil
	}
	if s.fault.After > 0 {
		s.fault.After--
		return nil
	}
	f := *s.fault
	if s.fault.Times--; s.fault.Times == 0 {
		s.fault = nil
	}
	return &f
}
