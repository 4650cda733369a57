package main

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
)

// routes adds the control endpoints to the API.
func routes(api *fakeapi.Server) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /control/chain", func(w http.ResponseWriter, r *http.Request) {
		chains, err := fakeapi.ReadWorld(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		for _, c := range chains {
			api.Set(c)
		}
	})
	mux.HandleFunc("PUT /control/kms", func(w http.ResponseWriter, r *http.Request) {
		all, err := fakeapi.ReadKMS(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		api.SetKMS(all...)
	})
	mux.HandleFunc("PUT /control/fault", func(w http.ResponseWriter, r *http.Request) {
		var f fakeapi.Fault
		dec := json.NewDecoder(r.Body)
		dec.DisallowUnknownFields()
		err := dec.Decode(&f)
		if err == nil {
			err = f.Check()
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		api.Fail(f)
	})
	mux.HandleFunc("DELETE /control/fault", func(http.ResponseWriter, *http.Request) { api.ClearFault() })
	mux.HandleFunc("GET /control/requests", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, api.Requests())
	})
	mux.HandleFunc("GET /control/reserved", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, api.Reserved())
	})
	mux.Handle("/", api)
	return mux
}
