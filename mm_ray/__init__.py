"""mm_ray: train, compare and tune ModalityMirror on Ray."""
