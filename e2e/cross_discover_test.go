//go:build e2e

package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// TestChainsAreDiscovered audits the built-in chains that the API's list of KMS names. A local node answers for their public
// endpoints, behind a proxy without outside access.
func TestChainsAreDiscovered(t *testing.T) {
	t.Parallel()
	n := dialNode(t, "anvil", []string{"--host", "127.0.0.1", "--port", "0", "--cache-path", t.TempDir(), "--chain-id", "8453"})
	must(t, testchain.Fund(t.Context(), n.client, owner))
	s := &stage{node: n, kms: n.deploy(t), api: startAPI(t)}
	must(t, s.describe(t.Context()))
	must(t, n.client.Client().CallContext(t.Context(), nil, "anvil_mine", 100)) // so that all is finalized
	env := inward(t, n)
	c := n.settings(s.api)
	c.Chains, c.CrossChecks = []chainSettings{}, true
	none := func(all *[]fakeapi.KMS) { *all = (*all)[:1] }
	for _, row := range []struct {
		sentence string
		claim    func(*fakeapi.Chain)
		kms      func(*[]fakeapi.KMS)
		api      fakeapi.Fault
		exit     int
		chains   string
	}{
		{sentence: "a chain that no source names is left out", chains: "base consistent"},
		{sentence: "a chain in the list is audited, and unknown if that fails", kms: func(all *[]fakeapi.KMS) {
			other := s.listed()[1]
			other.ID, other.ChainID, other.Contract = "kc_ethereum", 1, somewhere
			*all = append(*all, other)
		}, exit: 3, chains: "base consistent, ethereum unknown"},
		{sentence: "a chain only in the on-chain detail is audited", kms: none, exit: 1, chains: "base drift"},
		{sentence: "without any named chain, nothing is compared", kms: none, claim: func(c *fakeapi.Chain) { c.Contracts = nil }, exit: 3},
		{sentence: "without the list no chain is left out", api: listFault(status(404)), exit: 3, chains: "base unknown, ethereum unknown"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			claim, list := s.discovered(), s.listed()
			if row.claim != nil {
				row.claim(&claim)
			}
			if row.kms != nil {
				row.kms(&list)
			}
			must(t, s.api.put(claim))
			must(t, s.api.list(list))
			must(t, s.api.heal())
			if row.api.Name != "" {
				must(t, s.api.fail(row.api))
			}
			kept := filepath.Join(t.TempDir(), "evidence.json")
			exit, out, errs := runAuditorWith(t, env, "audit", "--once", "-o", "json", "-c", writeConfig(t, c), "--evidence", kept)
			report := decodeReport(t, out)
			var got []string
			for _, c := range report.Chains {
				got = append(got, c.Chain+" "+c.Verdict.String())
			}
			if exit != row.exit || strings.Join(got, ", ") != row.chains {
				t.Errorf("exit code %d and %q, want %d and %q\n%s%s", exit, got, row.exit, row.chains, out, errs)
			}
			verifies(t, kept, report)
		})
	}
}

// discovered is the API's answer for a contract that allows nothing.
func (s *stage) discovered() fakeapi.Chain {
	truth := s.truth()
	for _, d := range truth.Contracts[0].Devices {
		*d.Allowed = false
	}
	for _, i := range truth.Contracts[0].OSImages {
		*i.Allowed = false
	}
	return truth
}

// inward returns an auditor's environment in which the hosts of the built-in chain base lead to the node, and no other host is
// reachable.
func inward(t *testing.T, n *node) []string {
	t.Helper()
	var hosts, ofBase []string
	for _, c := range config.Default().Chains {
		for _, p := range c.Providers {
			u, err := url.Parse(p.URL.Reveal())
			must(t, err)
			if hosts = append(hosts, u.Host); c.Name == "base" {
				ofBase = append(ofBase, u.Host)
			}
		}
	}
	cert, file := certify(t, hosts)
	site := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(ofBase, r.Host) {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		n.proxy.ServeHTTP(w, r)
	}))
	site.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	site.StartTLS()
	t.Cleanup(site.Close)
	tunnel := testenv.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		there, err := net.Dial("tcp", site.Listener.Addr().String())
		if err != nil || r.Method != http.MethodConnect {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer there.Close()
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer here.Close()
		io.WriteString(here, "HTTP/1.1 200 Connection established\r\n\r\n")
		go io.Copy(there, here)
		io.Copy(here, there)
	}))
	return []string{"HTTPS_PROXY=" + tunnel, "SSL_CERT_FILE=" + file}
}

// certify makes a certificate for hosts, and a file with the CA to trust.
func certify(t *testing.T, hosts []string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	whose := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			whose.IPAddresses = append(whose.IPAddresses, ip)
		} else {
			whose.DNSNames = append(whose.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, whose, whose, &key.PublicKey, key)
	must(t, err)
	file := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}
