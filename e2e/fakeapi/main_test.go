package main_test

import (
	"bufio"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// bin is the command, built once.
var bin string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "fakeapi")
	if err != nil {
		log.Fatal(err)
	}
	bin = filepath.Join(dir, "fakeapi")
	out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput()
	code := 1
	if err == nil {
		code = m.Run()
	}
	os.RemoveAll(dir)
	if err != nil {
		log.Fatalf("building: %v\n%s", err, out)
	}
	os.Exit(code)
}

// start runs the command, and returns the URL of its first line and a function that ends it.
func start(t *testing.T, args ...string) (url string, end func() error) {
	t.Helper()
	cmd := exec.Command(bin, args...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if !ok {
		t.Fatalf("first line %q", line)
	}
	return url, func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		return cmd.Wait()
	}
}

func TestProcess(t *testing.T) {
	api, end := start(t, "-world", "../../kmsapi/testdata/kms-on-chain-base.json", "-key", "k")
	control := strings.TrimSuffix(api, "/api/v1") + "/control"
	steps := []struct {
		sentence, method, url, body string
		code                        int
		part                        string
	}{
		{"the world of the file is served", "GET", api + "/kms/on-chain/base", "", 200, `"dstack-0.5.9"`},
		{"a chain is not there", "GET", api + "/kms/on-chain/new", "", 400, "Unsupported chain"},
		{"until it is put there", "PUT", control + "/chain", `{"chain_name": "new", "chain_id": 7}`, 200, ""},
		{"and then it is served", "GET", api + "/kms/on-chain/new", "", 200, `"chain_id":7`},
		{"a chain with a typo is refused", "PUT", control + "/chain", `{"chain": "new"}`, 400, "unknown field"},
		{"a fault with a typo is refused", "PUT", control + "/fault", `{"name": "brake"}`, 400, `no fault has the name "brake"`},
		{"a fault is taken", "PUT", control + "/fault", `{"name": "status", "status": 502}`, 200, ""},
		{"and committed", "GET", api + "/kms/on-chain/base", "", 502, "told to fail"},
		{"until it is healed", "DELETE", control + "/fault", "", 200, ""},
		{"and then all is well", "GET", api + "/kms/on-chain/base", "", 200, "contracts"},
		{"the API's requests were counted", "GET", control + "/requests", "", 200, "5\n"},
		{"the list of KMS follows the chains", "GET", api + "/kms?is_onchain=true", "", 200, `"total":1`},
		{"a list with a typo is refused", "PUT", control + "/kms", `[{"name": "a"}]`, 400, "unknown field"},
		{"until another one is put there", "PUT", control + "/kms", `[{"id": "kc_a", "contract_address": "0xab", "chain_id": 7, "nodes": [{"id": "kms_a"}]}]`, 200, ""},
		{"and then that is served", "GET", api + "/kms/kms_a", "", 200, `"kms_contract_address":"0xab"`},
		{"an app id is given", "GET", api + "/kms/phala/next_app_id", "", 200, `"nonce":1`},
		{"and counted", "GET", control + "/reserved", "", 200, "1\n"},
	}
	for _, s := range steps {
		req, err := http.NewRequest(s.method, s.url, strings.NewReader(s.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-API-Key", "k")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", s.sentence, err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != s.code || !strings.Contains(string(body), s.part) {
			t.Errorf("%s: %d %s %v", s.sentence, resp.StatusCode, body, err)
		}
	}
	if err := end(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

func TestHangingRequestDoesNotKeepTheProcess(t *testing.T) {
	api, end := start(t, "-world", "../../kmsapi/testdata/kms-on-chain-base.json")
	control := strings.TrimSuffix(api, "/api/v1") + "/control/fault"
	req, err := http.NewRequest("PUT", control, strings.NewReader(`{"name": "stall"}`))
	if err != nil {
		t.Fatal(err)
	}
	put, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	put.Body.Close()
	resp, err := http.Get(api + "/kms/on-chain/base")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := end(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

func TestBadStartsFail(t *testing.T) {
	for sentence, args := range map[string][]string{
		"a world that is not there": {"-world", "nowhere.json"},
		"a world that is no JSON":   {"-world", "main.go"},
		"an invalid address":        {"-listen", "nowhere:nothing"},
		"an unknown flag":           {"-x"},
		"a word too many":           {"world.json"},
	} {
		out, err := exec.Command(bin, args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "fakeapi:") {
			t.Errorf("%s: %v\n%s", sentence, err, out)
		}
	}
}
