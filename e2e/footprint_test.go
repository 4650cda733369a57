//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// handsOn is a way to delegate calls: the roles of the code that runs, and how to swap that code.
type handsOn struct {
	roles string
	only  string // the only node that can do it; each if empty
	make  func(ctx context.Context, n *node) (*testchain.KMS, func(context.Context) error, error)
}

func shapes() map[string]handsOn {
	out := map[string]handsOn{
		"ERC-1967": {"proxy implementation", "", func(ctx context.Context, n *node) (*testchain.KMS, func(context.Context) error, error) {
			k, err := testchain.Deploy(ctx, n.client, testchain.DeployOptions{})
			return k, func(ctx context.Context) error { _, err := k.Upgrade(ctx, testchain.Backdoor); return err }, err
		}},
		"a library that is pointed at": {"proxy implementation library", "", func(ctx context.Context, n *node) (*testchain.KMS, func(context.Context) error, error) {
			k, _, err := helped(ctx, n, "setLibrary", testchain.Library, false)
			return k, func(ctx context.Context) error {
				at, err := k.Create(ctx, testchain.Library, true)
				if err != nil {
					return err
				}
				return k.SendTo(ctx, testchain.Helped, k.Address(), "setLibrary", at)
			}, err
		}},
		"a library whose code is replaced": {"proxy implementation library", "anvil", func(ctx context.Context, n *node) (*testchain.KMS, func(context.Context) error, error) {
			k, library, err := helped(ctx, n, "setLibrary", testchain.Library, false)
			return k, func(ctx context.Context) error {
				code, err := n.client.CodeAt(ctx, library, nil)
				if err != nil {
					return err
				}
				return n.client.Client().CallContext(ctx, nil, "anvil_setCode", library, hexutil.Bytes(append(code, 0)))
			}, err
		}},
	}
	for i, roles := range []string{"proxy implementation beacon", "proxy implementation", "proxy implementation", "proxy implementation implementation"} {
		shape := testchain.Shapes[i]
		out[shape.Name] = handsOn{roles, "", func(ctx context.Context, n *node) (*testchain.KMS, func(context.Context) error, error) {
			k, swap, err := shape.Deploy(ctx, n.client, testchain.DeployOptions{})
			return k, func(ctx context.Context) error { return swap(ctx, testchain.Backdoor) }, err
		}}
	}
	return out
}

// helped returns a contract whose devices are in another contract, and that other contract.
func helped(ctx context.Context, n *node, setter, helper string, args ...any) (*testchain.KMS, common.Address, error) {
	k, err := testchain.Deploy(ctx, n.client, testchain.DeployOptions{Implementation: testchain.Helped})
	if err != nil {
		return nil, common.Address{}, err
	}
	at, err := k.Create(ctx, helper, args...)
	if err != nil {
		return nil, at, err
	}
	return k, at, k.SendTo(ctx, testchain.Helped, k.Address(), setter, at)
}

// TestASwapOfCodeThatRuns checks that swapped code is a critical finding of the next audit, however the contract delegates calls,
// and that it survives a restart. Without a proof it is not a finding.
func TestASwapOfCodeThatRuns(t *testing.T) {
	t.Parallel()
	for name := range nodes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, name)
			for shape, by := range shapes() {
				if by.only != "" && by.only != name {
					continue
				}
				t.Run(shape, func(t *testing.T) {
					kms, swap, err := by.make(t.Context(), n)
					must(t, err)
					s := &scene{node: n, api: startAPI(t), kms: kms, devices: ids("device", 2), images: ids("image", 1)}
					must(t, kms.Seed(t.Context(), s.devices, s.images))
					must(t, s.api.put(s.claim()))
					s.settings = n.settings(s.api)
					s.settings.Schedule, s.settings.State = "@every 1s", filepath.Join(t.TempDir(), "state.db")
					s.settings.Web = &webSettings{Listen: []string{"127.0.0.1:0"}}
					d := startDaemon(t, s.settings)
					target := d.settled(t, "consistent")
					if got := found(target); got != "consistent "+wholly || roles(target) != by.roles || !target.Control.Complete {
						t.Errorf("%s, %q, %t", got, roles(target), target.Control.Complete)
					}
					if text := d.page(t, "/"); !hasAll(text, []string{target.Control.Accounts[len(target.Control.Accounts)-1].Address}) || strings.Contains(text, "no proxy") {
						t.Errorf("the page lacks the code that runs:\n%s", text)
					}
					n.proxy.Set(unproven)
					d.end(t, syscall.SIGTERM)
					d = startDaemon(t, s.settings)
					for range 2 {
						if line := d.audit(t); strings.Contains(line, `"verdict":"drift"`) {
							t.Errorf("without a proof: %s\n%s", line, d.page(t, "/api/v1/report"))
						}
					}
					n.proxy.Set(rpcfault.Fault{})
					d.end(t, syscall.SIGTERM)
					d = startDaemon(t, s.settings)
					d.finds(t, "consistent")

					must(t, swap(t.Context()))
					if name == "anvil" {
						s.mineIdle(t, 1) // a block with that in its state root
					}
					d.finds(t, "drift")
					swapped(t, d.target(t))
					d.end(t, syscall.SIGTERM)
					d = startDaemon(t, s.settings)
					d.finds(t, "drift")
					swapped(t, d.target(t))
					d.end(t, syscall.SIGTERM)
					exit, out, errs := runAuditor(t, "baseline", "accept", "-c", writeConfig(t, s.settings))
					if exit != 0 {
						t.Fatalf("baseline accept exits with %d\n%s%s", exit, out, errs)
					}
					file := filepath.Join(t.TempDir(), "evidence.json")
					exit, out, errs = runAuditor(t, "audit", "--once", "-o", "json", "--evidence", file, "-c", writeConfig(t, s.settings))
					if target := decodeReport(t, out).Chains[0].Targets[0]; len(target.Findings) != 0 && target.Findings[0].Kind != audit.UnlistedChainAllowed {
						t.Errorf("after it is accepted: %d, %s\n%s", exit, found(target), errs)
					}
					if code, out, errs := runAuditorIn(t, offline(), nil, "verify", file); code != exit {
						t.Errorf("verify exits with %d, want %d\n%s%s", code, exit, out, errs)
					}
				})
			}
		})
	}
}

func roles(t audit.Target) string {
	var out []string
	for _, a := range t.Control.Accounts {
		out = append(out, string(a.Role))
	}
	return strings.Join(out, " ")
}

// swapped fails the test unless other code is a critical finding.
func swapped(t *testing.T, target audit.Target) {
	t.Helper()
	if !slices.ContainsFunc(target.Findings, func(f audit.Finding) bool {
		return (f.Kind == audit.CodeChanged || f.Kind == audit.ImplementationChanged) && f.Severity == audit.Critical && f.State == audit.Confirmed
	}) {
		t.Errorf("the swap is not found: %s", found(target))
	}
}

// TestAListInAnotherContract checks that completeness needs the other contract's whole storage accounted for.
func TestAListInAnotherContract(t *testing.T) {
	t.Parallel()
	for name := range nodes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, name)
			kms, registry, err := helped(t.Context(), n, "setRegistry", testchain.Registry)
			must(t, err)
			s := &scene{node: n, api: startAPI(t), kms: kms, devices: ids("device", 2), images: ids("image", 1)}
			must(t, kms.Seed(t.Context(), nil, s.images))
			set := func(id common.Hash) {
				must(t, kms.SendTo(t.Context(), testchain.Registry, registry, "set", id, true))
			}
			for _, id := range s.devices {
				set(id)
			}
			must(t, s.api.put(s.claim()))
			s.settings = n.settings(s.api)
			once := func(exit int, want string) audit.Target {
				t.Helper()
				file := filepath.Join(t.TempDir(), "evidence.json")
				code, out, errs := runAuditor(t, "audit", "--once", "-o", "json", "--evidence", file, "-c", writeConfig(t, s.settings))
				target := decodeReport(t, out).Chains[0].Targets[0]
				if got := found(target); code != exit || got != want {
					t.Errorf("exit code %d, %s, want %d, %s\n%s\n%s", code, got, exit, want, out, errs)
				}
				if code, out, errs := runAuditorIn(t, offline(), nil, "verify", file); code != exit {
					t.Errorf("verify exits with %d, want %d\n%s%s", code, exit, out, errs)
				}
				return target
			}
			if target := once(0, "consistent "+wholly); len(target.Control.In(footprint.Other)) != 1 || target.Control.In(footprint.Other)[0].Address != registry.Hex() {
				t.Errorf("the registry is not among %+v", target.Control.Accounts)
			}
			set(common.Hash{9}) // an id that no source names
			if target := once(3, "unknown proven incomplete"); !strings.Contains(fmt.Sprint(target.Reasons), registry.Hex()) {
				t.Errorf("the reasons are %q", target.Reasons)
			}
		})
	}
}

// TestGettersThatWrite checks that getters that write are unknown, even if the node answers them.
func TestGettersThatWrite(t *testing.T) {
	t.Parallel()
	for name := range nodes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, name)
			kms, err := testchain.Deploy(t.Context(), n.client, testchain.DeployOptions{Implementation: testchain.Writing})
			must(t, err)
			s := &scene{node: n, api: startAPI(t), kms: kms, devices: ids("device", 2), images: ids("image", 1)}
			must(t, kms.Seed(t.Context(), s.devices, s.images))
			must(t, s.api.put(s.claim()))
			s.settings = n.settings(s.api)
			for _, how := range []string{"SSTORE", "TSTORE", "LOG", "CREATE", "CREATE2", "SELFDESTRUCT", "value"} {
				must(t, kms.SendTo(t.Context(), testchain.Writing, kms.Address(), "setHow", how, common.Hash{}))
				for _, fault := range []rpcfault.Fault{{}, unproven} {
					n.proxy.Set(fault)
					exit, out, errs := runAuditor(t, "audit", "--once", "-o", "json", "-c", writeConfig(t, s.settings))
					target := decodeReport(t, out).Chains[0].Targets[0]
					if exit != 3 || len(target.Findings) != 0 || !strings.Contains(fmt.Sprint(target.Reasons), "it writes when it is called") {
						t.Errorf("%s, %s: exit code %d, %s, %q\n%s", how, fault.Name, exit, found(target), target.Reasons, errs)
					}
				}
			}
		})
	}
}
