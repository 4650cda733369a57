//go:build e2e

package e2e_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestADecompressionBombTakesLittleMemory verifies evidence of a megabyte that decompresses to more than the limit.
func TestADecompressionBombTakesLittleMemory(t *testing.T) {
	const room = 125 << 20
	document := func(open, one, closed string) io.Reader {
		body := []byte(strings.Replace(open+strings.Repeat(one, room/len(one))+closed, ",]", "]", 1))
		return bytes.NewReader(fmt.Appendf(body, "\n{\"sha256\":\"%x\"}\n", sha256.Sum256(body)))
	}
	for sentence, bomb := range map[string]io.Reader{
		"nothing but spaces": strings.NewReader(strings.Repeat(" ", 256<<20)),
		"empty readings":     document(`{"schema":"kms-auditor/evidence/v2","rules":2,"chains":[{"first":{"observation":{"readings":[`, "{},", "]}}}]}"),
		"one long text":      document(`{"schema":"`, "a", `"}`),
	} {
		name := filepath.Join(t.TempDir(), "bomb.gz")
		out, err := os.Create(name)
		must(t, err)
		z, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
		must(t, err)
		_, err = io.Copy(z, bomb)
		must(t, errors.Join(err, z.Close(), out.Close()))
		var said bytes.Buffer
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "kms-auditor"), "verify", name)
		cmd.Stdout, cmd.Stderr = &said, &said
		must(t, cmd.Start())
		peak := 0 // KiB; the peak from wait4 would include this process's memory
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		for running := true; running; {
			select {
			case <-done:
				running = false
			case <-time.After(5 * time.Millisecond):
				status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)) // it may have ended
				if _, after, ok := strings.Cut(string(status), "VmHWM:"); ok {
					_, _ = fmt.Sscan(after, &peak)
				}
			}
		}
		t.Logf("%s: %s of CPU, %d MiB; %.200s", sentence, cmd.ProcessState.UserTime(), peak>>10, said.String())
		if exit := cmd.ProcessState.ExitCode(); exit != 2 && exit != 4 || peak == 0 || peak > 800<<10 {
			t.Errorf("%s: exit code %d and %d MiB", sentence, exit, peak>>10)
		}
	}
}
