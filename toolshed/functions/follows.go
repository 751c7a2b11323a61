package functions

import (
	"context"
	"errors"
	"fmt"

	"github.com/toolshed-cloud/shed/toolshed/auth"
)

// scopeMessages is the queue's own scope for who receives and answers: a function
// that follows a queue does, and so who decides what runs with its messages
// needs it too.
const scopeMessages auth.Scope = "queue:work"

// mayRun refuses to have a function follow a queue, or a module called with the
// messages that a function follows already, for who may not have them.
func (h handlers) mayRun(ctx context.Context, name string, next Settings) error {
	follows := next.Queue
	if follows == "" {
		f, _, err := h.shelf.get(ctx, name)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("reading whether a function follows a queue: %w", err)
		}
		follows = f.Settings.Queue
	}
	if follows == "" {
		return nil
	}
	if refused := auth.Check(ctx, scopeMessages); refused != nil {
		refused.Detail = fmt.Sprintf("queue: the function is called with the messages of %s; %s", follows, refused.Detail)
		return refused
	}
	return nil
}

// rollBack has another version called, by who may.
func (h handlers) rollBack(ctx context.Context, name string, version int64) error {
	if err := h.mayRun(ctx, name, Settings{}); err != nil {
		return err
	}
	return h.shelf.rollback(ctx, name, version)
}
