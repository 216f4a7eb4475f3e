// This file lets fork.go declare functions of the runtime, which have no body there.
