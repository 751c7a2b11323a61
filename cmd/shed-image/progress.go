package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// showsProgress says whether somebody looks: bars are drawn on a terminal alone,
// and not beside JSON.
func showsProgress(cmd *cobra.Command) bool {
	f, ok := cmd.ErrOrStderr().(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && !cli.WantsJSON(cmd)
}

// transferBars shows one bar a file, of the bytes that are there.
type transferBars struct {
	out  io.Writer
	file string
	bar  *progressbar.ProgressBar
}

// newTransferBars answers nil where nobody looks.
func newTransferBars(cmd *cobra.Command) *transferBars {
	if !showsProgress(cmd) {
		return nil
	}
	return &transferBars{out: cmd.ErrOrStderr()}
}

func (b *transferBars) tell(file string, done, total int64) {
	if b == nil {
		return
	}
	if file != b.file {
		b.end()
		b.file = file
		b.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(b.out), progressbar.OptionSetDescription(fmt.Sprintf("%-16s", file)),
			progressbar.OptionSetWidth(30), progressbar.OptionShowBytes(true), progressbar.OptionThrottle(100*time.Millisecond))
	}
	b.bar.Set64(done) //nolint:errcheck // a bar that can't be drawn is no failure
}

func (b *transferBars) end() {
	if b != nil && b.bar != nil {
		fmt.Fprintln(b.out)
		b.bar = nil
	}
}

// stepBar shows the steps of a build against how many there are.
type stepBar struct {
	out     io.Writer
	now     func() time.Time
	started time.Time
	bar     *progressbar.ProgressBar
}

// buildSteps scales the bar: a build with a lock has so many.
const buildSteps = 14

// newStepBar answers nil where nobody looks.
func newStepBar(cmd *cobra.Command, now func() time.Time) *stepBar {
	if !showsProgress(cmd) {
		return nil
	}
	return &stepBar{out: cmd.ErrOrStderr(), now: now, started: now(), bar: progressbar.NewOptions(buildSteps,
		progressbar.OptionSetWriter(cmd.ErrOrStderr()), progressbar.OptionSetWidth(30),
		progressbar.OptionSetPredictTime(false), progressbar.OptionClearOnFinish())}
}

func (b *stepBar) begin(step string) {
	if b == nil {
		return
	}
	b.bar.Describe(fmt.Sprintf("%-20s", step))
	if !b.bar.IsFinished() {
		b.bar.Add(1) //nolint:errcheck // as above
	}
}

func (b *stepBar) end() {
	if b != nil {
		b.bar.Finish() //nolint:errcheck // as above
		fmt.Fprintf(b.out, "\r\x1b[Kbuilt in %.1fs\n", b.now().Sub(b.started).Seconds())
	}
}
