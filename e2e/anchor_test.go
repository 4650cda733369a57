//go:build e2e && beacon

package e2e_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// TestTheSyncCommitteesOfARealBeaconNode covers two forks, three committees, a pause of a period, and an invented chain.
func TestTheSyncCommitteesOfARealBeaconNode(t *testing.T) {
	t.Parallel()
	began := time.Now()
	passed := func(what string, args ...any) {
		t.Logf("%3.0f s: %s", time.Since(began).Seconds(), fmt.Sprintf(what, args...))
	}
	d := startDevnet(t, forks{electra: 6, fulu: 10}) // nothing is finalized before epoch 4
	device, hidden := common.Hash{31: 1}, common.Hash{31: 2}
	kms := d.deploy(t)
	must(t, kms.AllowDevice(t.Context(), device))
	deployed, err := d.client.BlockNumber(t.Context())
	must(t, err)
	a := startAPI(t)
	must(t, a.put(d.claim(kms.Address(), []fakeapi.Device{{ID: device.Hex(), Allowed: new(true)}}, nil)))
	// finalized waits until the light client API says that a block, or one of a slot, is final.
	finalized := func(what string, block, slot uint64) (f update) {
		d.await(t, what, func() error {
			err := d.get(t, "/eth/v1/beacon/light_client/finality_update", &f)
			if at := f.Data.Finalized; err == nil && (at.Execution.Number < block || at.Beacon.Slot < slot) {
				err = fmt.Errorf("block %d, slot %d are final", at.Execution.Number, at.Beacon.Slot)
			}
			return err
		})
		passed("%s: slot %d is final, attested under %s", what, f.Data.Finalized.Beacon.Slot, f.Version)
		return f
	}
	finalized("the contract", deployed, 0)
	checkpoint := d.checkpoint(t).Hex()

	network := map[string]any{}
	for name, value := range d.spec {
		if text, ok := value.(string); ok {
			network[name] = text
		}
	}
	for name, value := range d.genesis {
		network[name] = value
	}
	b, err := json.Marshal(network)
	must(t, err)
	file := filepath.Join(t.TempDir(), "network.json")
	must(t, os.WriteFile(file, b, 0o600))
	s := d.settings(a)
	s.State, s.Schedule = filepath.Join(t.TempDir(), "state"), "@every 2s"
	s.Chains[0].Block = "finalized"
	s.Chains[0].Anchor = &anchorSettings{
		Beacon: []providerSettings{{Name: "down", URL: "http://127.0.0.1:1"}, {Name: "prysm", URL: d.beacon}}, Checkpoint: checkpoint, Required: true, Network: file,
	}
	once := func(s settings, want int, args ...string) *audit.Chain {
		t.Helper()
		s.State = ""
		exit, out, errs := runAuditor(t, append([]string{"audit", "--once", "-c", writeConfig(t, s), "-o", "json"}, args...)...)
		if exit != want {
			t.Fatalf("exit code %d, want %d\n%s\n%s", exit, want, out, errs)
		}
		return &decodeReport(t, out).Chains[0]
	}
	// anchored checks that the block signed by the committee was read, and that it is geth's.
	anchored := func(c *audit.Chain) {
		t.Helper()
		block, err := d.client.HeaderByNumber(t.Context(), new(big.Int).SetUint64(c.Block.Number))
		must(t, err)
		if c.Block.Trust != audit.TrustConsensus || c.Anchored == nil || c.Block.Hash != block.Hash().Hex() || c.Anchored.Hash != c.Block.Hash {
			t.Errorf("block %+v is audited, %+v is anchored, geth has %s", c.Block, c.Anchored, block.Hash())
		}
	}
	kept := filepath.Join(t.TempDir(), "evidence.json.gz")
	c := once(s, 0, "--evidence", kept)
	anchored(c)
	if !strings.HasPrefix(c.Errors[0].Source, "down") {
		t.Errorf("the errors do not name the endpoint that is down: %+v", c.Errors)
	}
	for root, want := range map[string]int{checkpoint: 0, device.Hex(): 4} {
		if exit, _, errs := runAuditorIn(t, offline(), nil, "verify", "--checkpoint", root, kept); exit != want {
			t.Errorf("verify --checkpoint %s exits with %d\n%s", root, exit, errs)
		}
	}
	fitsEvidenceSchema(t, kept)

	process := startDaemon(t, s)
	follows := func(what string, slot uint64) {
		t.Helper()
		finalized(what, 0, slot)
		process.finds(t, "consistent")
		anchored(&decodeReport(t, process.page(t, "/api/v1/report")).Chains[0])
	}
	follows("the second committee, under fulu", period+16)
	follows("the third", 2*period)
	if exit := process.end(t, syscall.SIGTERM); exit != 0 {
		t.Errorf("the daemon exits with %d", exit)
	}
	if n := strings.Count(strings.Join(process.logged(), "\n"), `"event":"finding_opened"`); n > 0 {
		t.Errorf("%d findings opened", n)
	}
	finalized("the daemon sleeps over a period", 0, 3*period+8)
	process = startDaemon(t, s) // it continues from the state
	process.finds(t, "consistent")
	anchored(&decodeReport(t, process.page(t, "/api/v1/report")).Chains[0])
	if page := process.page(t, "/metrics"); !strings.Contains(page, `kms_auditor_anchored_block_timestamp_seconds{chain="base",trust="consensus"}`) {
		t.Error("no metric of the anchored block")
	}
	if exit, out, errs := runAuditor(t, "anchor", "status", "-o", "json", "-c", writeConfig(t, s)); exit != 3 || !strings.Contains(out, `"start": "`) || strings.Contains(out, `"start": "`+checkpoint) {
		t.Errorf("anchor status exits with %d, and does not start from the state\n%s%s", exit, out, errs)
	}
	s.Chains[0].Anchor.Checkpoint = d.checkpoint(t).Hex()
	if exit, out, errs := runAuditor(t, "anchor", "status", "-c", writeConfig(t, s)); exit != 3 || !strings.Contains(out, "prysm: block") || !strings.Contains(errs, "not all that vouches for blocks") {
		t.Errorf("anchor status exits with %d\n%s%s", exit, out, errs)
	}

	// An invented chain has the same contract at the same address, and allows one device more.
	invented, err := testchain.Start(testchain.Options{})
	must(t, err)
	defer invented.Close()
	fake, err := invented.Deploy(t.Context(), testchain.DeployOptions{})
	must(t, err)
	must(t, fake.Seed(t.Context(), []common.Hash{device, hidden}, nil))
	for range 250 {
		invented.Commit()
	}
	if fake.Address() != kms.Address() {
		t.Fatalf("the invented contract is at %s, not at %s", fake.Address(), kms.Address())
	}
	must(t, a.put(d.claim(kms.Address(), []fakeapi.Device{{ID: device.Hex(), Allowed: new(true)}, {ID: hidden.Hex(), Allowed: new(true)}}, nil)))
	honest := s.Chains[0].Providers
	s.Chains[0].Providers = []providerSettings{{Name: "liar", URL: testenv.Serve(t, rpcfault.New(invented.URL()))}}
	for _, required := range []bool{true, false} {
		s.Chains[0].Anchor.Required = required
		if c := once(s, 3); !strings.Contains(fmt.Sprint(c.Targets[0].Findings), string(audit.BlockContradicted)) {
			t.Errorf("required: %t: %+v", required, c)
		}
	}
	s.Chains[0].Providers = append(s.Chains[0].Providers, honest...)
	anchored(once(s, 1))
	without := s
	without.Chains = []chainSettings{s.Chains[0]}
	without.Chains[0].Anchor, without.Chains[0].Providers = nil, s.Chains[0].Providers[:1]
	if c := once(without, 0); c.Block.Trust != "" {
		t.Errorf("without an anchor the invented chain is read as %+v", c.Block)
	}
}

// period is the number of slots in a devnet's sync-committee period.
const period = 64

// update has the used fields of a light client update.
type update struct {
	Version string
	Data    struct {
		Attested  header `json:"attested_header"`
		Finalized header `json:"finalized_header"`
	}
}

type header struct {
	Beacon struct {
		Slot uint64 `json:",string"`
	}
	Execution struct {
		Number uint64      `json:"block_number,string"`
		Hash   common.Hash `json:"block_hash"`
	}
}
