"""Layer-wise relevance propagation: how much each unit and connection carries of a decision.

Bach et al. 2015, "On pixel-wise explanations for non-linear classifier decisions by layer-wise
relevance propagation" (PLOS ONE 10(7): e0130140), as it is used for pruning by Yeom et al. 2019,
"Pruning by explaining" (arXiv 1912.08881).
"""
