package fakeapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// listKMS serves a page of the list.
func (s *Server) listKMS(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	page, pageOK := number(q, "page", 1, 1, 1<<20)
	size, sizeOK := number(q, "page_size", 20, 1, 100)
	wanted := map[string]func(KMS) bool{
		"":      func(KMS) bool { return true },
		"true":  func(k KMS) bool { return k.ChainID != 0 },
		"false": func(k KMS) bool { return k.ChainID == 0 },
	}[q.Get("is_onchain")]
	if !pageOK || !sizeOK || wanted == nil {
		answer(w, http.StatusUnprocessableEntity, []byte(`{"detail": [{"loc": ["query"], "msg": "Input should be valid", "type": "value_error"}]}`))
		return
	}
	f := s.takeFault(asked{endpoint: List, page: page})
	var items []json.RawMessage
	for _, k := range s.listFor(f) {
		if wanted(k) {
			for _, row := range k.rows(r.Header.Get("X-Phala-Version")) {
				items = append(items, row.body)
			}
		}
	}
	from := page
	if f != nil && slices.Contains(listFaults, f.Name) {
		switch {
		case f.Name == RepeatedPage:
			from = 1
		case f.Name == RepeatedItem && len(items) > 0:
			items = append(items, edit(items[0], "slug", json.RawMessage(`"another"`)))
		}
		f = nil
	}
	start := min((from-1)*size, len(items))
	body := encode(map[string]any{
		"items": append([]json.RawMessage{}, items[start:min(start+size, len(items))]...),
		"total": len(items), "page": page, "page_size": size, "pages": (len(items) + size - 1) / size,
	})
	s.reply(w, r, f, true, 0, "", body)
}

// elsewhere is the chain of the KMS that the fault Growing adds, so that they count as on chain.
const elsewhere = 999_999

// listFor returns the list, longer with the fault Growing.
func (s *Server) listFor(f *Fault) []KMS {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f != nil && f.Name == Growing {
		s.kms = slices.Insert(s.list(), 0, newKMS(fmt.Sprintf("grown-%d", s.requests), fmt.Sprintf("0x%040x", s.requests), elsewhere))
	}
	return s.list()
}

// showKMS serves one item, by id or slug.
func (s *Server) showKMS(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	f := s.takeFault(asked{endpoint: Info})
	for _, k := range s.listFor(f) {
		for _, row := range k.rows(r.Header.Get("X-Phala-Version")) {
			if row.id == id || row.slug != nil && *row.slug == id {
				s.reply(w, r, f, true, 0, "", row.body)
				return
			}
		}
	}
	s.reply(w, r, f, false, http.StatusNotFound, "KMS not found", []byte("null"))
}

// reserve serves app ids, each only once.
func (s *Server) reserve(w http.ResponseWriter, r *http.Request) {
	n, ok := number(r.URL.Query(), "counts", 1, 1, 20)
	type appID struct {
		ID    string `json:"app_id"`
		Nonce int    `json:"nonce"`
	}
	ids := []appID{}
	if ok {
		s.mu.Lock()
		for range n {
			s.reserved++
			ids = append(ids, appID{fmt.Sprintf("%040x", s.reserved), s.reserved})
		}
		s.mu.Unlock()
	}
	s.reply(w, r, s.takeFault(asked{endpoint: NextAppIDs}), ok, http.StatusUnprocessableEntity, "counts must be 1 to 20", encode(map[string]any{"app_ids": ids}))
}

// Reserved counts the app ids that were reserved so far.
func (s *Server) Reserved() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reserved
}

// number parses a query parameter within limits; absent is its default.
func number(q url.Values, name string, absent, least, most int) (int, bool) {
	if !q.Has(name) {
		return absent, true
	}
	n, err := strconv.Atoi(q.Get(name))
	return n, err == nil && least <= n && n <= most
}
