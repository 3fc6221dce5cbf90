"""The coarse stage: FAISS finds training patches near those of the query; their images are shortlisted."""
