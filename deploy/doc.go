// Package deploy holds no code: its tests check the files beside it as the programs would that read them, with those
// programs' own libraries (Kubernetes, kustomize, BuildKit, Prometheus), and start the configurations in a Fluent Bit
// where there is one. It is a module of its own so that the plugin does not depend on any of them.
package deploy
