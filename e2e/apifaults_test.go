//go:build e2e

package e2e_test

import (
	"encoding/json"
	"net/http"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
)

// refused is a URL without a listener.
const refused = "http://127.0.0.1:1"

// apiFaults are faults after which the claim is unknown.
var apiFaults = []row{
	{sentence: "the API refuses connections", exit: 3, fails: []string{"api api: …connection refused"},
		settings: func(_ *stage, c *settings) { c.API.BaseURL = refused }},
	{sentence: "the API does not answer", exit: 3, fails: []string{"api api: …no answer within 300ms"},
		api: fakeapi.Fault{Name: fakeapi.Hang}, settings: hasty},
	{sentence: "the API stops in the middle of its answer", exit: 3, fails: []string{"api api: …no answer within 300ms"},
		api: fakeapi.Fault{Name: fakeapi.Stall}, settings: hasty},
	{sentence: "the API resets the connection", exit: 3, fails: []string{"api api: …connection reset"},
		api: fakeapi.Fault{Name: fakeapi.Reset}},
	{sentence: "the API requires a key", exit: 3, fails: []string{"api api: …403 Forbidden…Not authenticated…api.api_key_env"},
		settings: func(_ *stage, c *settings) { c.API.APIKeyFile, c.API.APIKeyEnv = "", "NO_SUCH_VARIABLE" }},
	{sentence: "the API refuses the key", exit: 3, fails: []string{"api api: …401 Unauthorized"}, api: status(http.StatusUnauthorized)},
	{sentence: "the API refuses the key with a page of a proxy", exit: 3, fails: []string{"api api: …403 Forbidden"},
		api: fakeapi.Fault{Name: fakeapi.Status, Status: http.StatusForbidden, Shape: fakeapi.ShapeHTML}},
	{sentence: "the API refuses the key and echoes it", exit: 3, fails: []string{"api api: …401 Unauthorized…[redacted]"},
		api: fakeapi.Fault{Name: fakeapi.EchoKey}},
	{sentence: "the API fails and echoes the key", exit: 3, fails: []string{"api api: …502 Bad Gateway…[redacted]"},
		api: fakeapi.Fault{Name: fakeapi.EchoKey, Status: http.StatusBadGateway}},
	{sentence: "the API echoes the key in its data, in the place of a device", exit: 1,
		finds: []string{"critical unlisted_chain_allowed device prod5", `warning malformed_id device "your key [redacted]"`},
		api:   fakeapi.Fault{Name: fakeapi.EchoKey, Status: http.StatusOK}, keyInData: true},
	{sentence: "the API does not have the path", exit: 3, fails: []string{"api api: …404 Not Found"}, api: status(http.StatusNotFound)},
	{sentence: "the API complains in a list", exit: 3, fails: []string{"api api: …422 Unprocessable Entity…path.chain"},
		api: fakeapi.Fault{Name: fakeapi.Status, Status: http.StatusUnprocessableEntity, Shape: fakeapi.ShapeList}},
	{sentence: "the API complains with a code", exit: 3, fails: []string{"api api: …500 Internal Server Error…ERR-01-001"},
		api: fakeapi.Fault{Name: fakeapi.Status, Status: http.StatusInternalServerError, Shape: fakeapi.ShapeNested}},
	{sentence: "the API is rate limited", exit: 3, fails: []string{"api api: …429 Too Many Requests"}, api: status(http.StatusTooManyRequests)},
	{sentence: "the API's Retry-After is longer than an audit", exit: 3, fails: []string{"api api: …429 Too Many Requests"},
		api: fakeapi.Fault{Name: fakeapi.Status, Status: http.StatusTooManyRequests, RetryAfter: "86400"}},
	{sentence: "the API has an error", exit: 3, fails: []string{"api api: …500 Internal Server Error"}, api: status(http.StatusInternalServerError)},
	{sentence: "the API answers with a web page", exit: 3, fails: []string{"decode api: …text/html"}, api: fakeapi.Fault{Name: fakeapi.HTML}},
	{sentence: "the API's JSON is truncated", exit: 3, fails: []string{"decode api: …cannot be used"}, api: fakeapi.Fault{Name: fakeapi.Truncated}},
	{sentence: "the API's JSON is null", exit: 3, fails: []string{"decode api: …cannot be used"}, api: fakeapi.Fault{Name: fakeapi.Null}},
	{sentence: "the API's answer is empty", exit: 3, fails: []string{"decode api: …cannot be used"}, api: fakeapi.Fault{Name: fakeapi.Empty}},
	{sentence: "the API's list of contracts is a string", exit: 3, fails: []string{"decode api: …contracts"}, api: fakeapi.Fault{Name: fakeapi.WrongTypes}},
	{sentence: "the API's claim is a string", exit: 3, fails: []string{"decode api: …contracts[0].devices[0].on_chain_allowed"},
		api: fakeapi.Fault{Name: fakeapi.Replaced, Path: "contracts.0.devices.0.on_chain_allowed", Value: json.RawMessage(`"true"`)}},
	{sentence: "a device has no id", exit: 3, fails: []string{"decode api: …contracts[0].devices[0].device_id"},
		api: fakeapi.Fault{Name: fakeapi.Missing, Path: "contracts.0.devices.0.device_id"}},
	{sentence: "the API's list of images is missing", exit: 3, fails: []string{"decode api: …contracts[0].os_images"},
		api: fakeapi.Fault{Name: fakeapi.Missing, Path: "contracts.0.os_images"}},
	{sentence: "the API's answer has 100 MB", exit: 3, fails: []string{"decode api: …over 8 MiB"}, api: fakeapi.Fault{Name: fakeapi.Huge}},
	{sentence: "the API's answer has 100 MB uncompressed", exit: 3, fails: []string{"decode api: …over 8 MiB"}, api: fakeapi.Fault{Name: fakeapi.GzipBomb}},
	{sentence: "the API redirects to another host", exit: 3, fails: []string{"api api: …302 Found…redirects are not followed"},
		api: fakeapi.Fault{Name: fakeapi.Redirect, Location: "https://example.com/"}},
}

func status(code int) fakeapi.Fault { return fakeapi.Fault{Name: fakeapi.Status, Status: code} }

// hasty sets short timeouts.
func hasty(_ *stage, c *settings) {
	c.API.Timeout, c.Chains[0].Providers[0].Timeout = "300ms", "300ms"
}
