package beacon

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Encode encodes a document as the beacon API does.
func Encode(version string, data Document) []byte {
	b, err := json.Marshal(Document{"version": version, "data": data})
	if err != nil {
		panic(err) // data is not from this package
	}
	return b
}

// ServeHTTP serves the beacon API for light clients: bootstraps of finalized blocks, the updates of the periods up to the last
// finalized block, and the finality update of that block.
func (c *Chain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /eth/v1/beacon/light_client/bootstrap/{root}", c.serveBootstrap)
	mux.HandleFunc("GET /eth/v1/beacon/light_client/updates", c.serveUpdates)
	mux.HandleFunc("GET /eth/v1/beacon/light_client/finality_update", func(w http.ResponseWriter, _ *http.Request) {
		claim := c.Claim(c.Last())
		if c.mu.Lock(); c.attested > claim.Attested {
			claim.Attested, claim.SignatureSlot, claim.SignedBy, claim.Next = c.attested, c.attested+1, c.Period(c.attested+1), c.Period(c.attested)+1
		}
		c.mu.Unlock()
		answer(w, Encode(Fulu, c.FinalityUpdate(claim)))
	})
	mux.ServeHTTP(w, r)
}

// Last returns the slot of the last finalized block.
func (c *Chain) Last() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

func answer(w http.ResponseWriter, b []byte) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b)
}

func refuse(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = fmt.Fprintf(w, `{"code":%d,"message":%q}`, code, message)
}

func (c *Chain) serveBootstrap(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	slot, known := c.roots[strings.ToLower(r.PathValue("root"))]
	c.mu.Unlock()
	if !known {
		refuse(w, http.StatusNotFound, "LC bootstrap unavailable")
		return
	}
	_, data := c.Bootstrap(slot)
	answer(w, Encode(Fulu, data))
}

func (c *Chain) serveUpdates(w http.ResponseWriter, r *http.Request) {
	start, err := strconv.ParseUint(r.FormValue("start_period"), 10, 64)
	count, err2 := strconv.ParseUint(r.FormValue("count"), 10, 64)
	if err != nil || err2 != nil {
		refuse(w, http.StatusBadRequest, "start_period and count are numbers")
		return
	}
	all := []json.RawMessage{}
	for period := start; period < start+min(count, 128) && period <= c.Period(c.Last()); period++ {
		first := period * c.SlotsPerEpoch * c.EpochsPerPeriod
		all = append(all, Encode(Fulu, c.Update(c.Claim(first))))
	}
	b, _ := json.Marshal(all) // never fails for raw JSON
	answer(w, b)
}
