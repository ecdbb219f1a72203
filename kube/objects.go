//go:build kubernetes

package kube

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fluent-bit-defender/share"
)

// The ConfigMaps.

func (a *API) Get(ctx context.Context, name string) (share.Object, error) {
	m, err := a.maps.Get(ctx, name, meta.GetOptions{})
	if err != nil {
		return share.Object{}, a.failure("get", "configmaps", err)
	}
	return object(m), nil
}

func (a *API) Create(ctx context.Context, o share.Object) (share.Object, error) {
	m, err := a.maps.Create(ctx, a.configMap(o), meta.CreateOptions{})
	if err != nil {
		return share.Object{}, a.failure("create", "configmaps", err)
	}
	return object(m), nil
}

func (a *API) Update(ctx context.Context, o share.Object) (share.Object, error) {
	m, err := a.maps.Update(ctx, a.configMap(o), meta.UpdateOptions{})
	if err != nil {
		return share.Object{}, a.failure("update", "configmaps", err)
	}
	return object(m), nil
}

func (a *API) OfTenant(ctx context.Context, label string) ([]share.Object, error) {
	return a.list(ctx, share.TenantLabel+"="+label)
}

// All returns the ConfigMaps of all sources.
func (a *API) All(ctx context.Context) ([]share.Object, error) { return a.list(ctx, "") }

func (a *API) list(ctx context.Context, selector string) (out []share.Object, err error) {
	mine := share.NameLabel + "=" + a.options.Name
	if selector != "" {
		mine += "," + selector
	}
	maps, err := a.maps.List(ctx, meta.ListOptions{LabelSelector: mine})
	if err != nil {
		return nil, a.failure("list", "configmaps", err)
	}
	for i := range maps.Items {
		out = append(out, object(&maps.Items[i]))
	}
	return out, nil
}

func object(m *corev1.ConfigMap) share.Object {
	return share.Object{Name: m.Name, Version: m.ResourceVersion, Tenant: m.Labels[share.TenantLabel], Data: m.Data,
		Binary: m.BinaryData}
}

func (a *API) configMap(o share.Object) *corev1.ConfigMap {
	labels := a.labels()
	labels[share.TenantLabel] = o.Tenant
	return &corev1.ConfigMap{
		ObjectMeta: meta.ObjectMeta{Name: o.Name, Namespace: a.namespace, ResourceVersion: o.Version, Labels: labels},
		Data:       o.Data, BinaryData: o.Binary,
	}
}

func (a *API) labels() map[string]string {
	return map[string]string{share.ManagedByLabel: share.ManagedBy, share.NameLabel: a.options.Name}
}

// failure makes one of share's errors of one of client-go's.
func (a *API) failure(verb, resource string, err error) error {
	status, answered := err.(apierrors.APIStatus)
	switch {
	case apierrors.IsNotFound(err):
		return share.ErrNotFound
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return share.ErrConflict
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%w: %s", share.ErrRefused, a.missing(verb, resource, err))
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%w: the token of the service account is not valid (any more): %w", share.ErrRefused, err)
	case answered && status.Status().Code >= 400 && status.Status().Code < 500 &&
		status.Status().Code != http.StatusRequestTimeout:
		return fmt.Errorf("%w: %s %s: %w", share.ErrRefused, verb, resource, err)
	}
	return fmt.Errorf("the Kubernetes API: %s %s: %w", verb, resource, err)
}

var user = regexp.MustCompile(`User "([^"]+)"`)

// missing says which rule is missing.
func (a *API) missing(verb, resource string, err error) string {
	if !strings.Contains(err.Error(), "cannot "+verb+" resource") { // not RBAC: quota, admission, a namespace that ends
		return err.Error()
	}
	group := ""
	if resource == "leases" {
		group = "coordination.k8s.io"
	}
	who := "the service account"
	if m := user.FindStringSubmatch(err.Error()); m != nil {
		who = m[1]
	}
	return fmt.Sprintf("%s may not %s %s in namespace %s: add to its Role the rule apiGroups: [%q], resources: [%s], "+
		"verbs: [get, list, create, update]",
		who, verb, resource, a.namespace, group, resource)
}
