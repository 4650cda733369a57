// Command launch runs another program and writes what it took to file descriptor 3.
//
// It is a program of its own since the kernel counts what the parent of a process holds as memory of the child: this one
// holds less than any contender.
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
