// Package kubernetes checks the example for Kubernetes in docs/deploy. It contains only tests, and
// is a module so that the product's has no part of Kubernetes among its dependencies.
package kubernetes
