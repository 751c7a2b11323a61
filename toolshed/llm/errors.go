package llm

import "errors"

// ErrNoModel says that no provider is configured for a model.
var ErrNoModel = errors.New("no such model")
