package observe_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// The variables ask TestServeWorld, in a process that a benchmark started, for a world of so many entries and apps.
const (
	worldSize = "KMS_AUDITOR_BENCH_ENTRIES"
	worldApps = "KMS_AUDITOR_BENCH_APPS"
)

// appsAtOnce are as many as the gas of one transaction registers.
const appsAtOnce = 100

// startWorld runs a world until the benchmark ends, and returns its address.
func startWorld(b *testing.B, entries, apps int) string {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestServeWorld$")
	cmd.Env = append(os.Environ(), worldSize+"="+strconv.Itoa(entries), worldApps+"="+strconv.Itoa(apps))
	cmd.Stderr = os.Stderr
	stop, err := cmd.StdinPipe()
	check(b, err)
	out, err := cmd.StdoutPipe()
	check(b, err)
	check(b, cmd.Start())
	b.Cleanup(func() {
		stop.Close()
		_ = cmd.Wait() // it served, and how it ends says nothing of what was measured
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	check(b, err)
	return strings.TrimSpace(line)
}

// TestServeWorld is not a test: it serves a chain and an API that agree, until its standard input ends.
func TestServeWorld(t *testing.T) {
	entries, err := strconv.Atoi(os.Getenv(worldSize))
	if err != nil {
		t.Skip("only for benchmarks")
	}
	ctx := context.Background()
	chain, err := testchain.Start(testchain.Options{})
	check(t, err)
	defer chain.Close()
	apps, err := strconv.Atoi(os.Getenv(worldApps))
	check(t, err)
	options := testchain.DeployOptions{}
	if apps > 0 {
		options.Implementation = testchain.Backdoor
	}
	kms, err := chain.Deploy(ctx, options)
	check(t, err)
	row := fakeapi.Contract{Address: kms.Address().Hex(), ChainID: chainID, ChainName: "test"}
	var devices, images []common.Hash
	for i := range entries {
		id, allowed := crypto.Keccak256Hash([]byte(strconv.Itoa(i))), true
		hash := id.Hex()
		if i%5 == 0 {
			devices = append(devices, id)
			row.Devices = append(row.Devices, fakeapi.Device{ID: hash, NodeName: &hash, Allowed: &allowed})
			continue
		}
		images = append(images, id)
		row.OSImages = append(row.OSImages, fakeapi.OSImage{Name: "dstack", Version: strconv.Itoa(i), Hash: &hash, Allowed: &allowed})
	}
	check(t, kms.Seed(ctx, devices, images))
	for i := 0; i < apps; i += appsAtOnce {
		_, err := kms.Send(ctx, "registerApps", big.NewInt(int64(i+1)<<32), big.NewInt(int64(min(appsAtOnce, apps-i))))
		check(t, err)
	}
	chain.Commit() // the newest block is not the one with all the transactions
	api := fakeapi.New(fakeapi.Chain{ChainName: "test", ChainID: chainID, Contracts: []fakeapi.Contract{row}})
	defer api.Close()

	node, err := url.Parse(chain.URL())
	check(t, err)
	var trips, bytes atomic.Int64
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(node)
			r.Out.URL.Path = ""
			r.Out.Header.Del("Accept-Encoding")
			trips.Add(1)
			bytes.Add(r.In.ContentLength)
		},
		ModifyResponse: func(r *http.Response) error {
			r.Body = counted{r.Body, &bytes}
			return nil
		},
		ErrorLog: log.New(io.Discard, "", 0), // of answers that the client does not read to their end
	}
	allowed := true
	mux := http.NewServeMux()
	mux.Handle("/rpc", proxy)
	mux.Handle("/api/v1/", api)
	mux.HandleFunc("/counts", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, trips.Load(), bytes.Load()) })
	mux.HandleFunc("/contract", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, kms.Address()) })
	mux.HandleFunc("/change", func(w http.ResponseWriter, r *http.Request) {
		allowed = !allowed
		change := kms.RemoveImage
		if allowed {
			change = kms.AllowImage
		}
		if err := change(r.Context(), images[0]); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		now := allowed
		api.Update("test", func(c *fakeapi.Chain) { c.Contracts[0].OSImages[0].Allowed = &now })
	})
	mux.HandleFunc("/register", func(w http.ResponseWriter, r *http.Request) {
		apps++
		if _, err := kms.Send(r.Context(), "registerApp", common.BigToAddress(big.NewInt(int64(apps)))); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	fmt.Println(srv.URL)
	_, _ = io.Copy(io.Discard, os.Stdin) // until whoever started it is gone
}

// counted adds up what is read from it.
type counted struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}
