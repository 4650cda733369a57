package fakeapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
)

// Fault is one way in which the server misbehaves.
type Fault struct {
	Name     string `json:"name"`               // one of Faults
	Endpoint string `json:"endpoint,omitempty"` // one of Endpoints; OnChain if empty
	Chain    string `json:"chain,omitempty"`    // for OnChain; every chain if empty
	Page     int    `json:"page,omitempty"`     // for List; every page if zero
	After    int    `json:"after,omitempty"`    // number of requests before it that are answered normally
	Times    int    `json:"times,omitempty"`    // number of requests; until ClearFault if zero

	Status     int             `json:"status,omitempty"`      // for Status, 500 if zero; for EchoKey, 401 if zero, and 200 puts the key into a good answer
	Shape      string          `json:"shape,omitempty"`       // of the error body of Status; ShapeDetail if empty
	RetryAfter string          `json:"retry_after,omitempty"` // header of Status: seconds or an HTTP date
	Location   string          `json:"location,omitempty"`    // for Redirect
	Path       string          `json:"path,omitempty"`        // for Missing and Replaced, such as contracts.0.devices.0.device_id
	Value      json.RawMessage `json:"value,omitempty"`       // for Replaced
}

// The names of faults.
const (
	Status       = "status"         // an error with the API's error body
	HTML         = "html"           // 200 with a web page
	Truncated    = "truncated"      // 200 with the first half of the JSON
	WrongTypes   = "wrong_types"    // 200 with a string instead of the list of contracts
	Missing      = "missing"        // 200 without the field at Path
	Replaced     = "replaced"       // 200 with Value at Path
	WrongChainID = "wrong_chain_id" // 200 with another chain id, in the body and in every row
	ForeignRow   = "foreign_row"    // 200 with a first contract that claims another chain
	Huge         = "huge"           // 200 with 100 MB of JSON
	GzipBomb     = "gzip_bomb"      // 200 with 100 MB of white space in 100 kB
	Redirect     = "redirect"       // 302 to Location
	Hang         = "hang"           // no answer until the client disconnects or Close
	Stall        = "stall"          // half an answer, then like Hang
	Reset        = "reset"          // the connection is reset
	Null         = "null"           // 200 with the JSON null
	Empty        = "empty"          // 200 with an empty body
	EchoKey      = "echo_key"       // the request's X-API-Key in every string of an answer
	Growing      = "growing"        // List: each answer has one more KMS at the head
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

// Endpoints lists the endpoints of faults.
var Endpoints = []string{OnChain, List, Info, NextAppIDs, Any}

// The shapes of error bodies.
const (
	ShapeDetail = "detail" // {"detail": str}
	ShapeList   = "list"   // {"detail": [{loc, msg, type}]}
	ShapeCode   = "code"   // {error_code, message, …}
	ShapeNested = "nested" // {"detail": {error_code, message, …}}
	ShapeHTML   = "html"   // an HTML page of a proxy
	ShapeEmpty  = "empty"
)

// Faults lists the names of all faults.
var Faults = []string{
	Status, HTML, Truncated, WrongTypes, Missing, Replaced, WrongChainID, ForeignRow,
	Huge, GzipBomb, Redirect, Hang, Stall, Reset, Null, Empty, EchoKey,
	Growing, RepeatedPage, RepeatedItem,
}

// listFaults and onChainFaults are the faults of one endpoint only.
var (
	listFaults    = []string{Growing, RepeatedPage, RepeatedItem}
	onChainFaults = []string{WrongTypes, WrongChainID, ForeignRow}
)

// Check returns an error if the fault is invalid.
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

// Fail sets the fault from the next request on. It panics if Check fails.
func (s *Server) Fail(f Fault) {
	if err := f.Check(); err != nil {
		panic("fakeapi: " + err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = &f
}

// ClearFault ends the fault.
func (s *Server) ClearFault() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = nil
}

// asked has the parts of a request that a fault may select.
type asked struct {
	endpoint, chain string
	page            int
}

func (f *Fault) concerns(a asked) bool {
	endpoint := cmp.Or(f.Endpoint, OnChain)
	return (endpoint == Any || endpoint == a.endpoint) && (f.Chain == "" || f.Chain == a.chain) && (f.Page == 0 || f.Page == a.page)
}

// takeFault returns the fault for a request, or nil, and counts the request.
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
