// Command qcity is the node, signer, miner and pool port of a Proof-of-Online
// chain in one program; roles are subcommands. `qcity demo` shows all of it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is stamped by the linker.
var version = "unknown"

// Exit codes. A process that ends with exitConfig needs a person: whoever
// supervises it must not start it again by itself.
const (
	exitError       = 1
	exitConfig      = 78  // EX_CONFIG of sysexits(3)
	exitInterrupted = 130 // what shells expect after Ctrl-C
)

// needsPerson wraps an error that trying again cannot mend, such as a wrong PIN.
type needsPerson struct{ err error }

func (e needsPerson) Error() string { return e.err.Error() }
func (e needsPerson) Unwrap() error { return e.err }

// exitStatus ends the program with a status of its own and without a message: for
// answers that a script tells apart.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // a second Ctrl-C ends the program the hard way
	}()
	os.Exit(run(ctx, os.Args[1:]))
}

func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "%sinterrupted\n", errorHead)
		return exitInterrupted
	}
	if code := exitStatus(0); errors.As(err, &code) {
		return int(code) // everything is said already
	}
	fmt.Fprintf(os.Stderr, "%s%v\n", errorHead, err)
	if person := (needsPerson{}); errors.As(err, &person) {
		return exitConfig
	}
	return exitError
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "qcity",
		Short:         "Validator and mining appliance for a Proof-of-Online chain",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Long: `qcity is the node, signer, miner and Stratum port of a Proof-of-Online chain:
every tenth block is signed by a validator's key in an HSM, the others are
mined with SHA-256d.

Start with "qcity demo": it brings up a whole network on this machine.`,
	}
	root.AddCommand(newDemo(), newRun(), newSigner(), newAudit(), newChain(), newHW(), newBench(), newSimulate(), newWatermark(), newNode(), newAuthority(), newKey(), newCeremony(), newHSM(), newPoolCmd(), newKernelSelfTest())
	return root
}
