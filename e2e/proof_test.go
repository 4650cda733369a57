//go:build e2e

package e2e_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

const wholly = "proven proven" // assurance and completeness

var proofs = []row{
	{sentence: "every answer is proven, and so is that nothing else is stored", rests: wholly},
	{sentence: "the same while proof is required", settings: required, rests: wholly},
	{sentence: "a contract without lists hides nothing that it allows", claim: listNothing, exit: 1, rests: wholly,
		settings: scanned,
		finds: []string{
			"critical unlisted_chain_allowed device prod5", "critical unlisted_chain_allowed device prod7",
			"critical unlisted_chain_allowed os_image 0.5.8", "critical unlisted_chain_allowed os_image 0.5.7",
		}},
	{sentence: "an image that the API leaves out is found", claim: leaveOut(image058), settings: scanned, exit: 1, rests: wholly,
		finds: []string{"critical unlisted_chain_allowed os_image 0.5.8"}},
	{sentence: "an image that the API leaves out does not matter if the contract refuses it", claim: leaveOut(image059), rests: wholly},
}

func required(_ *stage, c *settings) { c.Chains[0].Verify = "required" }

// scanned sets from_block, since a node that keeps little state cannot find the deployment.
func scanned(s *stage, c *settings) {
	c.configure(s.kms.Address().Hex())
	c.Chains[0].Contracts[0].FromBlock = s.born
}

func listNothing(_ *stage, c *fakeapi.Chain) {
	c.Contracts[0].Devices, c.Contracts[0].OSImages = nil, nil
}

// leaveOut removes an image from the API's list.
func leaveOut(id string) func(*stage, *fakeapi.Chain) {
	return func(_ *stage, c *fakeapi.Chain) {
		var kept []fakeapi.OSImage
		for _, i := range c.Contracts[0].OSImages {
			if strings.TrimPrefix(*i.Hash, "0x") != id {
				kept = append(kept, i)
			}
		}
		c.Contracts[0].OSImages = kept
	}
}

// onBoth runs a test on a separate stage for each node, since it changes the contract's implementation.
func onBoth(t *testing.T, test func(*testing.T, *stage)) {
	for name := range nodes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, name)
			must(t, s.api.put(s.truth()))
			test(t, s)
		})
	}
}

// audit audits once, verifies the evidence, and returns the report's only target and the report as text.
func (s *stage) audit(t *testing.T, change func(*stage, *settings)) (audit.Target, string) {
	t.Helper()
	path, kept := filepath.Join(t.TempDir(), "report.json"), filepath.Join(t.TempDir(), "evidence.json.gz")
	_, text, errs := runAuditorWith(t, s.env, "audit", "--once", "-c", s.config(t, row{settings: change}), "-o", "text", "-o", "json="+path, "--evidence", kept)
	r := decodeReport(t, readFile(t, path))
	verifies(t, kept, r)
	if len(r.Chains) != 1 || len(r.Chains[0].Targets) != 1 {
		t.Fatalf("want one target:\n%s%s", text, errs)
	}
	return r.Chains[0].Targets[0], text
}

// found describes a target in one line: verdict, assurance, completeness, kinds of findings.
func found(t audit.Target) string {
	parts := []string{t.Verdict.String(), string(t.Assurance), string(t.Completeness)}
	for _, f := range t.Findings {
		parts = append(parts, string(f.Kind))
	}
	return strings.Join(parts, " ")
}

func (s *stage) finds(t *testing.T, what, want string, change func(*stage, *settings)) (audit.Target, string) {
	t.Helper()
	target, text := s.audit(t, change)
	if got := found(target); got != want {
		t.Errorf("%s: %s, want %s\n%s", what, got, want, text)
	}
	return target, text
}

// explain sets explained_slots.
func explain(reason string, slots ...common.Hash) func(*stage, *settings) {
	return func(s *stage, c *settings) {
		scanned(s, c)
		for _, slot := range slots {
			c.Chains[0].Contracts[0].Explained = append(c.Chains[0].Contracts[0].Explained, explainedSettings{slot.Hex(), reason})
		}
	}
}

// place returns the slot in which the fixture keeps an entry.
func place(id string, slot byte) common.Hash {
	return crypto.Keccak256Hash(common.HexToHash(id).Bytes(), common.LeftPadBytes([]byte{slot}, 32))
}

const devicesAt, imagesAt = 7, 8 // the fixture's slots

func TestBackDoor(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *stage) {
		s.finds(t, "before", "consistent "+wholly, scanned)
		_, err := s.kms.Upgrade(t.Context(), testchain.Backdoor)
		must(t, err)
		s.finds(t, "after the upgrade", "consistent "+wholly, scanned)
		must(t, s.kms.SneakImage(t.Context(), id(retired), true))
		s.finds(t, "after the back door was used", "drift proven incomplete storage_unaccounted", scanned)
		s.finds(t, "and another slot is explained", "drift proven incomplete storage_unaccounted", explain("of no use", place(image057, imagesAt)))
		target, text := s.finds(t, "once explained", "consistent "+wholly, explain("a leftover of the migration of May", place(retired, imagesAt)))
		if len(target.Explained) != 1 || target.Explained[0].Reason != "a leftover of the migration of May" || !strings.Contains(text, target.Explained[0].Reason) {
			t.Errorf("the report does not show the reason: %v\n%s", target.Explained, text)
		}
		if s.node.name == "anvil" {
			return // this node keeps leaves that hold zero
		}
		must(t, s.kms.SneakImage(t.Context(), id(retired), false))
		s.finds(t, "after the back door was shut", "consistent "+wholly, scanned)
	})
}

func TestListsAtOtherSlots(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *stage) {
		_, err := s.kms.Upgrade(t.Context(), testchain.Moved)
		must(t, err)
		must(t, s.kms.Seed(t.Context(), []common.Hash{id(prod5), id(prod7)}, []common.Hash{id(image057), id(image058)}))
		s.finds(t, "the old lists are left behind", "drift proven incomplete storage_unaccounted", scanned)
		left := []common.Hash{place(prod5, devicesAt), place(prod7, devicesAt), place(image057, imagesAt), place(image058, imagesAt)}
		target, _ := s.finds(t, "the old lists are explained", "consistent "+wholly, explain("the lists before the upgrade", left...))
		if target.Counts.Match != 6 || target.Storage == nil {
			t.Errorf("counts %+v, storage %+v, want 6 matches and complete storage", target.Counts, target.Storage)
		}
	})
}

func TestUnlistedEntryShowsItsChange(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *stage) {
		receipt, err := s.kms.Send(t.Context(), "addOsImageHash", id(image059))
		must(t, err)
		block, err := s.node.client.HeaderByHash(t.Context(), receipt.BlockHash)
		must(t, err)
		claim := s.truth()
		leaveOut(image059)(s, &claim)
		must(t, s.api.put(claim))
		target, text := s.finds(t, "an image that was never listed", "drift "+wholly+" unlisted_chain_allowed", nil)
		for _, e := range target.Entries {
			if e.Kind != audit.UnlistedChainAllowed {
				continue
			}
			c := e.Changed
			if c == nil || c.Time == nil || e.ID != "0x"+image059 {
				t.Fatalf("%+v lacks details of its change\n%s", e, text)
			}
			if c.Block != receipt.BlockNumber.Uint64() || c.Tx != receipt.TxHash ||
				c.Time.Unix() != int64(block.Time) || c.Actor != testchain.Address("owner").Hex() {
				t.Errorf("changed in block %d at %s by %s in %s, want block %s, %d, the owner, %s", c.Block, c.Time, c.Actor, c.Tx,
					receipt.BlockNumber, block.Time, receipt.TxHash)
			}
		}
	})
}
