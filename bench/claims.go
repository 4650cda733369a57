package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/kms-auditor/kms-auditor/internal/fakeapi"
)

// claims is the API. Its answers are made beforehand, so that making them costs nothing while others are measured.
type claims struct {
	*httptest.Server
	answers sync.Map // by path
}

func newClaims() *claims {
	c := &claims{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := c.answers.Load(r.URL.Path)
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body.([]byte)) // a client that went away is its own affair
	}))
	return c
}

// prepare makes the answer about a chain, which is given from commit on.
func (c *claims) prepare(chain fakeapi.Chain) (commit func()) {
	path, answer := "/kms/on-chain/"+chain.ChainName, httptest.NewRecorder()
	fakeapi.New(chain).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
	return func() { c.answers.Store(path, answer.Body.Bytes()) }
}

// tell makes the API claim what the contracts say, with the differences of seeds or without.
func (w *world) tell(seeded bool) {
	for i := range w.size.chains {
		w.claims.prepare(w.claim(i, seeded))()
	}
}

// claim is what the API says of a chain.
func (w *world) claim(i int, seeded bool) fakeapi.Chain {
	chain := fakeapi.Chain{ChainName: chainName(i), ChainID: w.rules.ChainID.Uint64()}
	for c, at := range w.contracts {
		if w.size.chainOf(c) != i {
			continue
		}
		row := fakeapi.Contract{Address: at.Hex(), ChainID: chain.ChainID, ChainName: chain.ChainName}
		for i, e := range w.size.entriesOf(c) {
			id, claim := e.id.Hex(), e.allowed
			if c == 0 && i == toggled {
				claim = w.final%2 == 0
			}
			if seeded && isSeed(i) {
				claim = !claim
			}
			if e.device {
				row.Devices = append(row.Devices, fakeapi.Device{ID: id, NodeName: new(fmt.Sprintf("prod%d", i)), Allowed: &claim})
			} else {
				row.OSImages = append(row.OSImages, fakeapi.OSImage{Name: "dstack", Version: fmt.Sprintf("0.5.%d", i), Hash: &id, Allowed: &claim})
			}
		}
		chain.Contracts = append(chain.Contracts, row)
	}
	return chain
}

// isSeed tells whether the API lies of the entry number i of every contract, where it is told to: a device and an image
// that are allowed, and an image that is not.
func isSeed(i int) bool { return i == 0 || i == 3 || i == 9 }
