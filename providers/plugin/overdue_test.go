package plugin

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestOverdueCutsWhatTakesTooLongAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run, stop := context.WithCancel(t.Context())
		defer stop()
		o := newOverdue(time.Minute)
		go o.run(run)
		started := time.Now()
		long, longDone := o.begin(t.Context())
		defer longDone()
		quick, quickDone := o.begin(t.Context())
		quickDone()
		<-time.After(30 * time.Second)
		late, lateDone := o.begin(t.Context())
		defer lateDone()
		<-long.Done()
		if took := time.Since(started); took < time.Minute || took > time.Minute+time.Minute/ticksPerPatience {
			t.Errorf("a call was cut after %s", took)
		}
		if cause := context.Cause(long); !errors.Is(cause, context.DeadlineExceeded) {
			t.Errorf("its cause is %v", cause)
		}
		if cause := context.Cause(quick); errors.Is(cause, context.DeadlineExceeded) {
			t.Errorf("a call that had ended was cut: %v", cause)
		}
		if late.Err() != nil {
			t.Error("a call that began later was cut with it")
		}
		if n := len(o.calls); n != 2 {
			t.Errorf("%d calls are kept, want 2", n)
		}
	})
}

func TestOverdueEndsWithItsCaller(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	call, done := newOverdue(time.Minute).begin(ctx)
	defer done()
	cancel()
	if cause := context.Cause(call); !errors.Is(cause, context.Canceled) {
		t.Errorf("its cause is %v", cause)
	}
}
