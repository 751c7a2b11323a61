package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

// Lines of usual data fit a terminal of 80 columns.
func TestTablesFit(t *testing.T) {
	const id = "mbs3j3rmpw6p5ppg2f4qt5nbqe"
	var out bytes.Buffer
	err := tabulate(&out, []adminclient.Instance{
		{ID: id, UserID: "ada", State: "ready", Reason: "accepted at tier software", URL: "https://127.0.0.1:27593"},
		{ID: id, UserID: "grace", State: "requested", Reason: "there is room for it"},
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := &cobra.Command{}
	cmd.SetOut(&out)
	for _, reason := range []string{"accepted at tier software", "the machine has introduced itself"} {
		if err := printEvent(cmd, adminclient.Event{At: time.Unix(1, 0).UTC(), Instance: id, To: "quarantined", Reason: reason}); err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(out.String()) {
		if len(strings.TrimSuffix(line, "\n")) > 80 {
			t.Errorf("a line of %d columns: %s", len(line), line)
		}
	}
}
