package deploy_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestTheSeccompProfileIsTight holds what the profile may not be; the end-to-end tests hold what it must allow.
func TestTheSeccompProfileIsTight(t *testing.T) {
	b, err := os.ReadFile("seccomp/kms-auditor.json")
	if err != nil {
		t.Fatal(err)
	}
	var profile struct {
		DefaultAction string
		Architectures []string
		Syscalls      []struct {
			Names  []string
			Action string
			Args   []struct {
				Index, Value uint64
				Op           string
			}
		}
	}
	if err := json.Unmarshal(b, &profile); err != nil {
		t.Fatal(err)
	}
	if profile.DefaultAction != "SCMP_ACT_ERRNO" || !slices.Equal(profile.Architectures, []string{"SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"}) {
		t.Errorf("by default it does %s, on %s", profile.DefaultAction, profile.Architectures)
	}
	forbidden := strings.Fields(`acct add_key adjtimex bpf chroot clone3 delete_module fanotify_init finit_module fork init_module io_uring_setup ioperm iopl
		kcmp kexec_load keyctl kill memfd_create mknodat mount mount_setattr move_mount open_by_handle_at perf_event_open personality pivot_root
		process_vm_readv process_vm_writev ptrace quotactl reboot request_key seccomp sethostname setns settimeofday swapon syslog
		umount2 unshare userfaultfd vfork`)
	seen := map[string]bool{}
	for _, rule := range profile.Syscalls {
		if rule.Action != "SCMP_ACT_ALLOW" || !slices.IsSorted(rule.Names) {
			t.Errorf("%s %v is not sorted, or not allowed", rule.Action, rule.Names)
		}
		for _, name := range rule.Names {
			bound := len(rule.Args) == 1 && rule.Args[0].Index == 0
			if slices.Contains(forbidden, name) || seen[name] && !bound || (name == "socket" || name == "clone") && !bound {
				t.Errorf("it allows %s, or twice, or whatever its arguments", name)
			}
			seen[name] = true
		}
	}
	if len(seen) < 50 || len(seen) > 120 {
		t.Errorf("it allows %d calls", len(seen))
	}
}
