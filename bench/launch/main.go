// Command launch runs another program and writes its cost to file descriptor 3.
//
// It is a separate program because the kernel counts the parent's memory in the child's peak. This one needs less memory than any
// contender.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	began := time.Now()
	err := cmd.Run()
	took := time.Since(began)
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		fmt.Fprintln(os.Stderr, err)
		return 127
	}
	p := cmd.ProcessState
	if _, err := fmt.Fprintf(os.NewFile(3, "cost"), "%d %d %d\n", took, p.UserTime()+p.SystemTime(), p.SysUsage().(*syscall.Rusage).Maxrss<<10); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 127
	}
	return p.ExitCode()
}
