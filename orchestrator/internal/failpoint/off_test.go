//go:build !failpoints

package failpoint_test

import (
	"testing"

	"github.com/toolshed-cloud/shed/orchestrator/internal/failpoint"
)

func TestNormalBuildReadsNoVariable(t *testing.T) {
	for _, p := range failpoint.Points {
		t.Setenv("SHED_FAILPOINT", string(p))
		failpoint.Here(p)
	}
}
