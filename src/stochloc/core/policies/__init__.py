"""Policies: how much SNR each token receives next, and which tokens are rewound."""
