package enrol

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/toolshed-cloud/shed/providers"
)

// So many machines have a turn at once and no more, a machine has one alone, and
// one that gets none in time is turned away.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newTurns(filesAtOnce)
		var gives []func()
		for n := range filesAtOnce {
			give, err := all.take(t.Context(), providers.MachineID(fmt.Sprint(n)))
			if err != nil {
				t.Fatal(err)
			}
			gives = append(gives, give)
		}
		if _, err := all.take(t.Context(), "0"); err == nil {
			t.Error("a machine has two turns")
		}
		began := time.Now()
		if _, err := all.take(t.Context(), "late"); err == nil || time.Since(began) != fileTurn {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		next := make(chan error)
		go func() {
			give, err := all.take(t.Context(), "late")
			if err == nil {
				defer give()
			}
			next <- err
		}()
		synctest.Wait()
		gives[0]()
		if err := <-next; err != nil {
			t.Errorf("once a turn was given back: %v", err)
		}
		for _, give := range gives[1:] {
			give()
		}
		synctest.Wait()
		if len(all.inside)+len(all.free) != 0 {
			t.Errorf("%d machines inside, %d turns taken", len(all.inside), len(all.free))
		}
	})
}
