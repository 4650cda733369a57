//go:build e2e

package e2e_test

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// image is the image that the Dockerfile builds, as a container that is not started yet.
type image struct {
	buildah   []string // command with its options
	container string
	config    imageConfig
}

type imageConfig struct {
	User            string
	ExposedPorts    map[string]struct{}
	Env             []string
	Entrypoint, Cmd []string
	Labels          map[string]string
}

func buildImage(t *testing.T, args ...string) *image {
	t.Helper()
	store := filepath.Join(tools(t), "docker")
	name := "localhost/kms-auditor:e2e"
	cmd := exec.Command("./docker.sh", append([]string{store, name}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the image: %v\n%s", err, out)
	}
	i := &image{buildah: []string{"buildah", "--root", store + "/root", "--runroot", store + "/run", "--storage-driver", "vfs"}}
	i.container = i.do(t, "from", name)
	t.Cleanup(func() {
		i.do(t, "rm", i.container)
		i.do(t, "rmi", name)
	})
	var inspected struct{ OCIv1 struct{ Config imageConfig } }
	must(t, json.Unmarshal([]byte(i.do(t, "inspect", "--type", "image", name)), &inspected))
	i.config = inspected.OCIv1.Config
	return i
}

func (i *image) do(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(i.buildah[0], append(slices.Clone(i.buildah[1:]), args...)...).Output()
	if err != nil {
		t.Fatalf("buildah %s: %v\n%s", strings.Join(args, " "), err, err.(*exec.ExitError).Stderr)
	}
	return strings.TrimSpace(string(out))
}

// command runs the image's entrypoint as the image's user. The folder, unless empty, is mounted under its own path.
func (i *image) command(folder string, args ...string) []string {
	run := append(slices.Clone(i.buildah), "run", "--isolation", "chroot")
	if folder != "" {
		run = append(run, "-v", folder+":"+folder+":ro")
	}
	return slices.Concat(run, []string{i.container, "--"}, i.config.Entrypoint, args)
}

func (i *image) run(t testing.TB, folder string, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	command := i.command(folder, args...)
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestImage(t *testing.T) {
	i := buildImage(t, "VERSION=v1.2.3-e2e", "REVISION=0123abc")
	root := i.do(t, "mount", i.container)
	authorities := filepath.Join(root, "etc/ssl/certs/ca-certificates.crt")

	t.Run("it holds the program and what that reads, so no shell", func(t *testing.T) {
		want := []string{"LICENSE", "etc/ssl/certs/ca-certificates.crt", "kms-auditor", "usr/share/zoneinfo.zip"}
		var got []string
		must(t, fs.WalkDir(os.DirFS(root), ".", func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				got = append(got, path)
			}
			return err
		}))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
	})
	t.Run("it says how it runs", func(t *testing.T) {
		labels := map[string]string{}
		for k, v := range i.config.Labels {
			if name, ok := strings.CutPrefix(k, "org.opencontainers.image."); ok && name != "title" && name != "description" {
				labels[name] = v
			}
		}
		got := i.config
		got.Labels, got.Env = labels, nil
		want := imageConfig{
			User: "65532:65532", ExposedPorts: map[string]struct{}{"10726/tcp": {}},
			Entrypoint: []string{"/kms-auditor"}, Cmd: []string{"audit"},
			Labels: map[string]string{
				"source": "https://github.com/kms-auditor/kms-auditor", "licenses": "Apache-2.0",
				"version": "v1.2.3-e2e", "revision": "0123abc",
			},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("configuration (-want +got):\n%s", diff)
		}
	})
	t.Run("it trusts the usual certificate authorities", func(t *testing.T) {
		pem, err := os.ReadFile(authorities)
		must(t, err)
		if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			t.Error("the image has no certificates")
		}
	})
	t.Run("version prints the stamp", func(t *testing.T) {
		code, stdout, stderr := i.run(t, "", "version")
		if code != 0 || !hasAll(stdout, []string{"kms-auditor v1.2.3-e2e", "revision 0123abc"}) {
			t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
		}
	})

	s := newScene(t, 1, 1)
	once := func(t *testing.T, want int) {
		t.Helper()
		config := readable(t, s.settings)
		code, stdout, stderr := i.run(t, filepath.Dir(config), "audit", "--once", "-c", config)
		if code != want {
			t.Errorf("exit code %d, want %d\n%s%s", code, want, stdout, stderr)
		}
	}
	t.Run("audit --once exits 0 while both sides agree", func(t *testing.T) { once(t, 0) })
	t.Run("it knows time zones", func(t *testing.T) {
		config := readable(t, map[string]any{"timezone": "Europe/Berlin"})
		code, stdout, stderr := i.run(t, filepath.Dir(config), "config", "check", "-c", config)
		if code != 0 || !strings.Contains(stdout, "Europe/Berlin") {
			t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
		}
	})
	t.Run("the daemon is not root, and ends with 0 on SIGTERM", func(t *testing.T) {
		config := readable(t, s.settings)
		command := i.command(filepath.Dir(config), append(slices.Clone(i.config.Cmd), "-c", config)...)
		p, addr := start(t, `"msg":"serving".*"addresses":\["([^"]+)"`, command[0], command[1:], nil, nil)
		pid := find(t, slices.Concat(i.config.Entrypoint, i.config.Cmd, []string{"-c", config}))
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		must(t, err)
		for _, line := range []string{"Uid:\t65532\t65532\t65532\t65532\n", "Gid:\t65532\t65532\t65532\t65532\n"} {
			if !strings.Contains(string(status), line) {
				t.Errorf("no %q in\n%s", line, status)
			}
		}
		eventually(t, "it is ready", func() bool {
			code, _ := get(t, "http://"+addr+"/-/ready")
			return code == 200
		})
		must(t, syscall.Kill(pid, syscall.SIGTERM))
		select {
		case <-p.done:
		case <-time.After(patience):
			t.Fatalf("it still runs %s after SIGTERM", patience)
		}
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
	t.Run("it needs no root that can be written, only its state", func(t *testing.T) { runsBare(t, root, s) })
	must(t, s.kms.RemoveDevice(t.Context(), s.devices[0]))
	t.Run("audit --once exits 1 on drift", func(t *testing.T) { once(t, 1) })
}

// readable writes a configuration that another user can read.
func readable(t testing.TB, c any) string {
	t.Helper()
	path := writeConfig(t, c)
	must(t, os.Chmod(path, 0o644))
	return path
}

// find returns the process with a command line, which must be the only one.
func find(t testing.TB, args []string) int {
	t.Helper()
	want := strings.Join(args, "\x00") + "\x00"
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	var found []string
	for _, f := range files {
		// The process may have ended.
		if line, err := os.ReadFile(f); err == nil && string(line) == want {
			found = append(found, filepath.Base(filepath.Dir(f)))
		}
	}
	if len(found) != 1 {
		t.Fatalf("the processes %q run %q, want one", found, args)
	}
	pid, err := strconv.Atoi(found[0])
	must(t, err)
	return pid
}
