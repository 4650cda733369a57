//go:build e2e

package e2e_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi/bind"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

var apps = flag.Int("apps", 20_000, "registered apps of TestManyApps")

var highWater = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`)

// crowded is a contract with many registered apps.
func crowded(t *testing.T) *scene {
	t.Helper()
	args := append(slices.Clone(nodes["geth"].args), "--dev.gaslimit", "1000000000", "--txpool.accountslots", "10000", "--txpool.globalslots", "10000")
	n := dialNode(t, "geth", args)
	must(t, testchain.Fund(t.Context(), n.client, testchain.Address("owner")))
	s := sceneOn(t, n, 10, 30)
	_, err := s.kms.Upgrade(t.Context(), testchain.Backdoor)
	must(t, err)
	a, err := testchain.Contract(testchain.Backdoor)
	must(t, err)
	bound := bind.NewBoundContract(s.kms.Address(), a.ABI, n.client, n.client, n.client)
	opts, err := bind.NewKeyedTransactorWithChainID(testchain.Key("owner"), new(big.Int).SetUint64(n.chainID))
	must(t, err)
	nonce, err := n.client.PendingNonceAt(t.Context(), opts.From)
	must(t, err)
	opts.GasLimit = 1 << 24 // the limit of a transaction (EIP-7825)
	const atOnce = 100
	var last *types.Transaction
	for i := 0; i < *apps; i += atOnce {
		opts.Nonce = new(big.Int).SetUint64(nonce + uint64(i/atOnce))
		last, err = bound.Transact(opts, "registerApps", big.NewInt(int64(i+1)<<32), big.NewInt(int64(min(atOnce, *apps-i))))
		must(t, err)
	}
	receipt, err := bind.WaitMined(t.Context(), n.client, last)
	must(t, err)
	if receipt.Status != types.ReceiptStatusSuccessful {
		t.Fatal("apps were not registered")
	}
	s.settings.Timeout, s.settings.Chains[0].Providers[0].Timeout = "10m", "20s"
	return s
}

// TestManyApps checks that apps are proven within the memory limit. With less memory they cost only completeness.
func TestManyApps(t *testing.T) {
	s := crowded(t)
	once := func(env ...string) (audit.Target, time.Duration, int) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "kms-auditor"), "audit", "--once", "-o", "json", "-c", writeConfig(t, s.settings))
		cmd.Env = environ(env)
		var out bytes.Buffer
		cmd.Stdout = &out
		began, resident := time.Now(), 0
		must(t, cmd.Start())
		ended := make(chan error)
		go func() { ended <- cmd.Wait() }()
		for {
			select {
			case <-ended: // the verdict is in the report
				return decodeReport(t, out.String()).Chains[0].Targets[0], time.Since(began), resident
			case <-time.After(20 * time.Millisecond):
				// The kernel's peak of an ended child includes its parent's memory at the fork.
				if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)); err == nil {
					if m := highWater.FindSubmatch(status); m != nil {
						kib, err := strconv.Atoi(string(m[1]))
						must(t, err)
						resident = kib >> 10
					}
				}
			}
		}
	}
	target, took, resident := once()
	t.Logf("%d apps: audit --once took %s and %d MiB", *apps, took.Round(100*time.Millisecond), resident)
	if found(target) != "consistent "+wholly {
		t.Errorf("%s", found(target))
	}
	// Enough memory for half of them.
	limit := 128<<20 + *apps/2*1000
	target, took, resident = once("GOMEMLIMIT=" + big.NewInt(int64(limit)).String())
	t.Logf("%d apps, and a limit of %d MiB: audit --once took %s and %d MiB; %s", *apps, limit>>20, took.Round(100*time.Millisecond), resident, target.Incomplete)
	if found(target) != "consistent proven incomplete" || !strings.Contains(target.Incomplete, "which exceeds the memory limit") {
		t.Errorf("%s; %s", found(target), target.Incomplete)
	}
	d := startDaemon(t, s.settings)
	for end := time.Now().Add(5 * time.Minute); len(ended(d)) == 0 && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	_, _ = d.await(t, 0, `"event":"audit_finished"`)
	line := ended(d)[0]
	t.Logf("the daemon's first audit took %s: %t", duration(t, line), strings.Contains(line, `"verdict":"consistent"`))
	requests := s.proxy.Requests()
	took, _ = lasted(t, d)
	t.Logf("an unchanged one took %s", took)
	if n := s.proxy.Requests() - requests; n > 2 { // another audit may have begun
		t.Errorf("an unchanged audit takes %d round trips", n)
	}
	_, err := s.kms.Send(t.Context(), "registerApp", common.Address{0xaa})
	must(t, err)
	var longest time.Duration
	for range 3 {
		if took, line = lasted(t, d); !strings.Contains(line, `"verdict":"consistent"`) {
			t.Errorf("after one more app: %s", line)
		}
		longest = max(longest, took)
	}
	t.Logf("one more app: it took %s", longest)
}

// ended returns the log lines of audits that ended.
func ended(d *daemon) []string {
	return slices.DeleteFunc(slices.Clone(d.logged()), func(line string) bool { return !strings.Contains(line, `"event":"audit_finished"`) })
}

// lasted waits for an audit of the daemon and returns its duration.
func lasted(t *testing.T, d *daemon) (time.Duration, string) {
	t.Helper()
	line := d.audit(t)
	return duration(t, line), line
}

func duration(t *testing.T, line string) time.Duration {
	t.Helper()
	var finished struct {
		Seconds float64 `json:"duration_seconds"`
	}
	must(t, json.Unmarshal([]byte(line), &finished))
	return time.Duration(finished.Seconds * float64(time.Second)).Round(time.Millisecond)
}
