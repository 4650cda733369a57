//go:build e2e

package e2e_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

func TestDaemonShowsNoSecret(t *testing.T) {
	t.Parallel()
	canary := newSecrets()
	s := newScene(t, 1, 1, "-key", canary.key)
	front := testenv.Serve(t, canary.gate(s.proxy))
	s.settings.API.APIKeyEnv = "E2E_API_KEY"
	s.settings.Chains[0].Providers = []providerSettings{
		canary.provider("p1", canary.guard(front)),
		canary.provider("p2", canary.guard("http://canary-host.invalid")),
	}
	host, err := url.Parse(front)
	must(t, err)
	d := startDaemon(t, s.settings, "E2E_API_KEY="+canary.key)

	shows := func(t *testing.T) {
		t.Helper()
		for _, path := range []string{"/", "/metrics", "/api/v1/report", "/-/ready", "/-/healthy"} {
			body := d.page(t, path)
			canary.absent(t, path, body)
			if strings.Contains(body, host.Host) {
				t.Errorf("%s shows the provider's address:\n%s", path, body)
			}
		}
	}
	d.finds(t, "consistent") // so the secrets were sent
	shows(t)

	for sentence, f := range map[string]rpcfault.Fault{
		"the provider refuses the key":                    rpcfault.Status(401, ""),
		"the provider limits the rate":                    rpcfault.Status(429, "0"),
		"the provider is down":                            rpcfault.Status(503, ""),
		"the provider redirects to its own URL":           rpcfault.Redirect(canary.guard(front)),
		"the provider shows a page that repeats the call": echoing(200, "<html>%s</html>"),
		"the provider's error repeats the call":           echoing(200, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":%q}}`),
		"the provider's 500 repeats the call":             echoing(500, `{"error":%q}`),
		"the provider's message holds the URL":            rpcfault.Refuse("eth_getBlockByNumber", -32000, "no archive at "+canary.guard(front)),
		"the provider hangs up": {HTTP: func(http.ResponseWriter, *http.Request, []rpcfault.Call, bool) bool {
			panic(http.ErrAbortHandler)
		}},
		"the provider does not answer": rpcfault.Hang,
	} {
		t.Run(sentence, func(t *testing.T) {
			s.proxy.Set(f)
			defer s.proxy.Set(rpcfault.Fault{})
			d.finds(t, "unknown")
			shows(t)
		})
	}
	for sentence, f := range map[string]fakeapi.Fault{
		"the API refuses the key and repeats it":  {Name: fakeapi.EchoKey},
		"the API's 500 repeats the key":           {Name: fakeapi.EchoKey, Status: 500},
		"the API redirects to a URL with the key": {Name: fakeapi.Redirect, Location: s.api.url + "?key=" + canary.key},
		"the API fails":                           {Name: fakeapi.Status, Status: 502, Shape: fakeapi.ShapeNested},
		"the API's list is the key":               {Name: fakeapi.Replaced, Path: "contracts", Value: []byte(`"` + canary.key + `"`)},
		"the API hangs up":                        {Name: fakeapi.Reset},
		"the API says half of what it has to say": {Name: fakeapi.Truncated},
	} {
		t.Run(sentence, func(t *testing.T) {
			must(t, s.api.fail(f))
			defer func() { must(t, s.api.heal()) }()
			d.finds(t, "unknown")
			shows(t)
		})
	}
	for sentence, f := range map[string]fakeapi.Fault{
		"the API's device id is the key":        {Name: fakeapi.Replaced, Path: "contracts.0.devices.0.device_id", Value: []byte(`"` + canary.key + `"`)},
		"the API's good answer repeats the key": {Name: fakeapi.EchoKey, Status: 200},
	} {
		t.Run(sentence, func(t *testing.T) {
			must(t, s.api.fail(f))
			defer func() { must(t, s.api.heal()) }()
			d.finds(t, "drift") // an allowed device is no longer listed
			shows(t)
		})
	}
	for _, line := range d.logged() {
		canary.absent(t, "the log", line)
		if strings.Contains(line, host.Host) {
			t.Errorf("the log shows the provider's address:\n%s", line)
		}
	}
}
