//go:build tools

package deps

import (
	_ "github.com/cenkalti/backoff/v5"
	_ "github.com/fluent/fluent-bit-go/input"
	_ "github.com/go-oauth2/oauth2/v4/errors"
	_ "github.com/go-oauth2/oauth2/v4/generates"
	_ "github.com/go-oauth2/oauth2/v4/manage"
	_ "github.com/go-oauth2/oauth2/v4/models"
	_ "github.com/go-oauth2/oauth2/v4/server"
	_ "github.com/go-oauth2/oauth2/v4/store"
	_ "github.com/golang-jwt/jwt/v5"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/klauspost/compress/gzip"
	_ "github.com/spf13/cobra"
	_ "github.com/vmihailenco/msgpack/v5"
	_ "go.etcd.io/bbolt"
	_ "go.uber.org/goleak"
	_ "golang.org/x/oauth2"
	_ "golang.org/x/oauth2/clientcredentials"
	_ "golang.org/x/sys/unix"
	_ "golang.org/x/sync/errgroup"
	_ "pgregory.net/rapid"
	_ "sigs.k8s.io/yaml"
)
