package main_test

import (
	"context"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kms-auditor/kms-auditor/internal/testenv/beacon"
)

// signer is the beacon chain of a script, and its endpoint.
type signer struct {
	*beacon.Chain
	checkpoint common.Hash
	forgets    atomic.Bool
}

func (s *signer) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if s.forgets.Load() && strings.HasSuffix(r.URL.Path, s.checkpoint.Hex()) {
		http.Error(rw, "LC bootstrap unavailable", http.StatusNotFound)
		return
	}
	s.Chain.ServeHTTP(rw, r)
}

// beaconCommand is beacon starts: a beacon chain, described by network.json, has finalized $CHECKPOINT and, after it, $NEWEST, and anchored.yaml
// has its endpoint. beacon forgets: the endpoint serves no light client that begins at $CHECKPOINT any more.
func beaconCommand(ts *testscript.TestScript, neg bool, args []string) {
	refuse(ts, neg || len(args) != 1 || args[0] != "starts" && args[0] != "forgets")
	w := ts.Value("world").(*world)
	if args[0] == "forgets" {
		w.signer.forgets.Store(true)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := ethclient.DialContext(ctx, w.rpcHTTP.URL)
	ts.Check(err)
	defer client.Close()
	first, err := client.HeaderByNumber(ctx, big.NewInt(1))
	ts.Check(err)
	newest, err := client.HeaderByNumber(ctx, nil)
	ts.Check(err)
	time.Sleep(time.Until(time.Unix(int64(newest.Time)+1, 0))) // what is made within one second is of the next ones
	w.signer = &signer{Chain: beacon.New(beacon.Options{GenesisTime: first.Time - 100})}
	w.signer.checkpoint = w.signer.Finalize(first)
	ts.Setenv("CHECKPOINT", w.signer.checkpoint.Hex())
	ts.Setenv("NEWEST", w.signer.Finalize(newest).Hex())
	srv := httptest.NewServer(w.signer)
	ts.Defer(srv.Close)
	network, err := json.Marshal(w.signer.Spec())
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("network.json"), network, 0o600))
	anchored := strings.NewReplacer("block: latest", "block: finalized\n    anchor: {beacon: [{name: beacon1, url: "+srv.URL+"}], checkpoint: \""+w.signer.checkpoint.Hex()+"\", network: network.json}",
		"confirm_delay:", "state: state.db\nconfirm_delay:").Replace(ts.ReadFile("auditor.yaml"))
	ts.Check(os.WriteFile(ts.MkAbs("anchored.yaml"), []byte(anchored), 0o600))
}
